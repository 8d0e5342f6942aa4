-- newest --
-- The newest dataset version of a use case, and the artifact version that stands for it.
select v.version, v.artifact_version_id, v.digest, catalog.erased_rows_of(v.dataset_id, v.version) as erased
from catalog.dataset d
join catalog.dataset_version v using (dataset_id)
where d.use_case = :'use_case' and d.kind = 'examples'
order by v.version desc
limit 1;

-- members --
-- The rows of a version of the examples, with their splits.
select m.example_digest as digest, m.split
from catalog.dataset d
cross join lateral catalog.example_members(d.dataset_id, :'version'::int) m
where d.use_case = :'use_case' and d.kind = 'examples';
