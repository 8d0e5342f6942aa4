-- newest --
-- The newest dataset version of a use case, and the artifact version that stands for it.
select v.version, v.artifact_version_id
from catalog.dataset d
join catalog.dataset_version v using (dataset_id)
where d.use_case = :'use_case' and d.kind = 'examples'
order by v.version desc
limit 1;
