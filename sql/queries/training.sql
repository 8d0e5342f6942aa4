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

-- deployments_of --
-- When an adapter was live, and who let it.
select d.valid_from, d.valid_to, d.promoted_by, d.why
from lineage.deployments d
where d.use_case = :'use_case' and d.model_digest = :'adapter'
order by d.valid_from;

-- scores_of --
-- How an adapter did: of each suite and metric the newest evaluation, with retrieval and without.
select distinct on (e.suite, e.retrieval, m.key) e.suite, e.retrieval, m.key as metric, (m.value ->> 'value')::float8 as value,
       (m.value ->> 'low')::float8 as low, (m.value ->> 'high')::float8 as high, (m.value ->> 'n')::int as n
from eval.evaluations e cross join lateral jsonb_each(e.metrics) m
where e.use_case = :'use_case' and e.model_digest = :'adapter'
order by e.suite, e.retrieval, m.key, e.evaluated_at desc;
