-- rows --
-- The rows of one kind that a dataset version trains and selects on, in an order that is always the same. Erased rows
-- are left out. A version that returns to earlier content shares its artifact version, so any of them will do.
select m.split, e.digest, e.source, e.content
from (
    select v.dataset_id, v.version, d.use_case
    from catalog.dataset_version v
    join catalog.dataset d using (dataset_id)
    where v.artifact_version_id = :'artifact_version_id'::bigint
    order by v.version desc
    limit 1
) v
cross join lateral catalog.example_members(v.dataset_id, v.version) m
join catalog.example e on e.use_case = v.use_case and e.digest = m.example_digest
where e.kind = :'kind' and m.split in ('train', 'validation') and e.content is not null
order by m.split, e.digest;

-- weights --
-- How often the rows of each source of a dataset version are trained on, where that is not once.
select s.source, s.description ->> 'weight' as weight
from catalog.dataset d join catalog.version_source s using (dataset_id)
where d.use_case = :'use_case' and d.kind = 'examples' and s.version = :'version'::int and s.description ? 'weight'
order by s.source;
