-- The order of clearances stands in rag.rank alone.
set local role nightshift_owner;

grant execute on function rag.rank to reader, auditor;

create or replace view rag.access as
select p.use_case, p.name as principal, p.tenant, p.groups as principal_groups, p.clearance, d.deployment_id, d.generation_id,
       d.document_key, d.document_version_id, d.classification, d.groups, d.chunks
from rag.principal p
join rag.served_documents d on d.use_case = p.use_case and d.tenant = p.tenant
where rag.rank(d.classification) <= rag.rank(p.clearance)
  and (d.classification = 'public' or d.groups && p.groups);

reset role;
