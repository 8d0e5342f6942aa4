-- newest --
-- The newest dataset version of a use case, and the artifact version that stands for it.
select v.version, v.artifact_version_id, v.digest, catalog.erased_rows_of(v.dataset_id, v.version) as erased
from catalog.dataset d
join catalog.dataset_version v using (dataset_id)
where d.use_case = :'use_case' and d.kind = 'examples'
order by v.version desc
limit 1;

-- newest_signed --
-- The newest dataset version of a use case in which persons have signed all that is new, and those of its sources that by
-- the newest version of all may not be trained on any more.
select v.version, v.artifact_version_id, v.digest, catalog.erased_rows_of(v.dataset_id, v.version) as erased,
       array(select o.source from catalog.version_source o
             join catalog.version_source n on n.dataset_id = o.dataset_id and n.source = o.source
             where o.dataset_id = v.dataset_id and o.version = v.version and 'train' = any (o.uses) and not 'train' = any (n.uses)
               and n.version = (select max(x.version) from catalog.dataset_version x where x.dataset_id = v.dataset_id)
             order by o.source) as revoked
from catalog.dataset d
join catalog.dataset_version v using (dataset_id)
where d.use_case = :'use_case' and d.kind = 'examples' and catalog.signoff_state(v.dataset_id, v.version) = 'signed'
order by v.version desc
limit 1;

-- members --
-- The rows of a version of the examples, with their splits.
select m.example_digest as digest, m.split
from catalog.dataset d
cross join lateral catalog.example_members(d.dataset_id, :'version'::int) m
where d.use_case = :'use_case' and d.kind = 'examples';
