-- versions --
-- The versions of the server and of pgvector.
select current_setting('server_version') as server,
       (select extversion from pg_extension where extname = 'vector') as vector;

-- rights --
-- Who may read the documents of a use case, as they were committed last.
select distinct v.tenant, v.classification, v.groups
from catalog.dataset s
join catalog.document_member m on m.dataset_id = s.dataset_id and m.removed_in is null
join catalog.document_version v using (document_version_id)
where s.use_case = :'use_case' and s.kind = 'documents' and v.status = 'approved'
order by v.tenant, v.classification, v.groups;
