-- tombstones --
-- What of a use case was erased, as HMACs.
select hmac from catalog.tombstone where use_case = :'use_case';

-- add_tombstones --
-- Writes tombstones.
insert into catalog.tombstone (hmac, use_case, kind, reason)
select mark, :'use_case', :'kind', :'reason' from unnest(:'hmacs'::text[]) mark
on conflict (hmac) do nothing;

-- insert_findings --
-- Writes a run's findings. A second attempt of the run that finds the same writes nothing twice.
insert into catalog.finding (use_case, run_id, file, line, rule, severity, detail, digest)
select :'use_case', :'run'::uuid, f.file, f.line, f.rule, f.severity, f.detail, f.digest
from rows from (
    jsonb_to_recordset(:'findings'::jsonb) as (file text, line int, rule text, severity text, detail text, digest text)
) with ordinality as f (file, line, rule, severity, detail, digest, place)
where not exists (
    select from catalog.finding o
    where o.run_id = :'run'::uuid and o.file = f.file and o.line is not distinct from f.line and o.rule = f.rule
)
order by f.place;

-- lock_commits --
-- Makes the commits of a use case wait for each other, until this connection ends.
select rag.lock_work(:'use_case', 'commit');

-- standing --
-- The newest version of a dataset.
select v.version, v.digest
from catalog.dataset d join catalog.dataset_version v using (dataset_id)
where d.use_case = :'use_case' and d.kind = :'kind'
order by v.version desc
limit 1;

-- members_of_examples --
-- The rows of a version of the examples, with their splits.
select array_agg(m.example_digest) as digests, array_agg(m.split) as labels
from catalog.dataset d
cross join lateral catalog.example_members(d.dataset_id, :'version'::int) m
where d.use_case = :'use_case' and d.kind = 'examples';

-- members_of_documents --
-- The document versions of a version of the corpus, with their status.
select array_agg(v.digest) as digests, array_agg(v.status) as labels
from catalog.dataset d
cross join lateral catalog.document_members(d.dataset_id, :'version'::int) m
join catalog.document_version v using (document_version_id)
where d.use_case = :'use_case' and d.kind = 'documents';

-- current_documents --
-- The documents of the current corpus, without their text.
select o.document_key, v.digest, v.text_digest, v.title, v.tenant, v.classification, v.groups, v.owner, v.source, v.status,
       v.fresh_until, v.retain_until, v.first_seen_at, v.subject, v.uses, v.body is null as erased
from catalog.dataset d
join catalog.document_member m on m.dataset_id = d.dataset_id and m.removed_in is null
join catalog.document_version v using (document_version_id)
join catalog.document o using (document_id)
where d.use_case = :'use_case' and d.kind = 'documents';

-- assignments --
-- The splits of groups that were seen before.
select array_agg(a.group_digest) as groups, array_agg(a.split) as splits
from catalog.split_assignment a
join unnest(:'groups'::text[]) as wanted (group_digest) using (group_digest)
where a.use_case = :'use_case';

-- rows_of_source --
-- How many rows of the current dataset version came from a source, and were not erased.
select count(*) as rows
from catalog.dataset d
join catalog.example_member m on m.dataset_id = d.dataset_id and m.removed_in is null
left join catalog.example e on e.use_case = d.use_case and e.digest = m.example_digest
left join catalog.locked_example l on l.use_case = d.use_case and l.digest = m.example_digest
where d.use_case = :'use_case' and d.kind = 'examples' and coalesce(e.source, l.source) = :'source'
  and coalesce(e.content, l.content) is not null;

-- committed_report --
-- The report of the check whose rows were committed last.
select i.version_id
from lineage.run r
join lineage.job j using (job_id)
join lineage.run_input i on i.run_id = r.run_id and i.role = 'report'
where j.use_case = :'use_case' and j.name = 'data.commit' and r.state = 'succeeded'
order by r.ended_at desc
limit 1;

-- seen --
-- Of document versions that the catalog has: whether they were withdrawn since they were first seen, and how often their
-- documents were in all.
select o.document_key, count(w.seq) as withdrawals, coalesce(max(w.seq) > v.withdrawal_mark, false) as withdrawn
from unnest(:'keys'::text[], :'digests'::text[]) as asked (document_key, digest)
join catalog.document o on o.use_case = :'use_case' and o.document_key = asked.document_key
join catalog.document_version v on v.document_id = o.document_id and v.digest = asked.digest
left join rag.withdrawal w on w.use_case = o.use_case and w.document_key = o.document_key
group by o.document_key, v.document_version_id;

-- insert_assignments --
-- Fixes the splits of groups.
insert into catalog.split_assignment (use_case, group_digest, split)
select :'use_case', g.group_digest, g.split from unnest(:'groups'::text[], :'splits'::text[]) as g (group_digest, split);

-- insert_examples --
-- Writes the rows to train and select on that the catalog does not have, gives those their text back that lost it without
-- having been erased, and says where each stands now.
insert into catalog.example as e (use_case, digest, kind, split, content, subject, documents, source)
select :'use_case', r.digest, r.kind, r.split, r.content, r.subject, r.documents, r.source
from jsonb_to_recordset(:'rows'::jsonb)
    as r (digest text, kind text, split text, content jsonb, subject text, documents text[], source text)
where r.split <> 'test'
on conflict (use_case, digest) do update set content = excluded.content, source = excluded.source
where e.content is null or e.source <> excluded.source;

-- insert_locked_examples --
-- The same for the rows of the test split.
insert into catalog.locked_example as e (use_case, digest, kind, content, subject, documents, source)
select :'use_case', r.digest, r.kind, r.content, r.subject, r.documents, r.source
from jsonb_to_recordset(:'rows'::jsonb)
    as r (digest text, kind text, split text, content jsonb, subject text, documents text[], source text)
where r.split = 'test'
on conflict (use_case, digest) do update set content = excluded.content, source = excluded.source
where e.content is null or e.source <> excluded.source;

-- kept_examples --
-- The rows of both tables that have their text, and the file that each comes from.
select array_agg(r.digest) as digests, array_agg(r.source) as sources
from (select e.digest, e.source from catalog.example e where e.use_case = :'use_case' and e.content is not null
      union all
      select l.digest, l.source from catalog.locked_example l where l.use_case = :'use_case' and l.content is not null) r;

-- generated_digests --
-- The rows of which it was ever said that no person wrote them.
select distinct digest from catalog.generated_row where use_case = :'use_case';

-- insert_generated --
-- Writes down what wrote rows, where something new is said of them.
insert into catalog.generated_row (use_case, digest, made_by, prompt_digest, made_on, checked_by)
select :'use_case', r.digest, r.made_by, r.prompt_digest, r.made_on, r.checked_by
from jsonb_to_recordset(:'rows'::jsonb) as r (digest text, made_by text, prompt_digest text, made_on date, checked_by text)
left join lateral (
    select g.made_by, g.prompt_digest, g.made_on, g.checked_by from catalog.generated_row g
    where g.use_case = :'use_case' and g.digest = r.digest order by g.generated_row_id desc limit 1) g on true
where (r.made_by, r.prompt_digest, r.made_on, r.checked_by) is distinct from (g.made_by, g.prompt_digest, g.made_on, g.checked_by);

-- insert_documents --
-- Writes the ids of documents that were never seen before.
insert into catalog.document (use_case, document_key)
select :'use_case', r.document_key from jsonb_to_recordset(:'rows'::jsonb) as r (document_key text)
on conflict do nothing;

-- insert_document_versions --
-- Writes the document versions that the catalog does not have.
insert into catalog.document_version as v (document_id, digest, text_digest, title, body, tenant, classification, groups,
                                           owner, source, status, fresh_until, retain_until, subject, uses)
select o.document_id, r.digest, r.text_digest, r.title, r.body, r.tenant, r.classification, r.groups,
       r.owner, r.source, r.status, r.fresh_until, r.retain_until, r.subject, r.uses
from jsonb_to_recordset(:'rows'::jsonb)
    as r (document_key text, digest text, text_digest text, title text, body text, tenant text, classification text,
          groups text[], owner text, source text, status text, fresh_until date, retain_until date, subject text, uses text[])
join catalog.document o on o.use_case = :'use_case' and o.document_key = r.document_key
on conflict (document_id, digest) do update set body = excluded.body where v.body is null;

-- insert_dataset --
-- Makes a dataset known.
insert into catalog.dataset (use_case, kind) values (:'use_case', :'kind') on conflict do nothing;

-- insert_dataset_version --
-- Writes a version down.
insert into catalog.dataset_version (dataset_id, version, digest, artifact_version_id, counts, run_id)
select dataset_id, :'version'::int, :'digest', :'artifact'::bigint, :'counts'::jsonb, :'run'::uuid
from catalog.dataset where use_case = :'use_case' and kind = :'kind';

-- insert_version_sources --
-- Writes down what a version was taken from.
insert into catalog.version_source (dataset_id, version, source, digest, uses, description, rows)
select d.dataset_id, :'version'::int, r.source, r.digest, r.uses, r.description, r.rows
from catalog.dataset d
cross join jsonb_to_recordset(:'sources'::jsonb) as r (source text, digest text, uses text[], description jsonb, rows bigint)
where d.use_case = :'use_case' and d.kind = :'kind';

-- version_sources --
-- What a version was taken from.
select s.source, s.digest
from catalog.version_source s join catalog.dataset d using (dataset_id)
where d.use_case = :'use_case' and d.kind = :'kind' and s.version = :'version'::int;

-- remove_examples --
-- Ends the membership of rows.
update catalog.example_member m set removed_in = :'version'::int
from catalog.dataset d
where d.use_case = :'use_case' and d.kind = 'examples' and m.dataset_id = d.dataset_id and m.removed_in is null
  and m.example_digest = any (:'digests'::text[]);

-- add_examples --
-- Begins the membership of rows.
insert into catalog.example_member (dataset_id, example_digest, split, added_in)
select d.dataset_id, r.digest, r.split, :'version'::int
from catalog.dataset d
cross join unnest(:'digests'::text[], :'splits'::text[]) as r (digest, split)
where d.use_case = :'use_case' and d.kind = 'examples';

-- remove_documents --
-- Ends the membership of document versions.
update catalog.document_member m set removed_in = :'version'::int
from catalog.dataset d, catalog.document_version v, catalog.document o
where d.use_case = :'use_case' and d.kind = 'documents' and m.dataset_id = d.dataset_id and m.removed_in is null
  and v.document_version_id = m.document_version_id and o.document_id = v.document_id and o.use_case = d.use_case
  and v.digest = any (:'digests'::text[]);

-- add_documents --
-- Begins the membership of document versions.
insert into catalog.document_member (dataset_id, document_version_id, added_in)
select d.dataset_id, v.document_version_id, :'version'::int
from catalog.dataset d
join catalog.document o on o.use_case = d.use_case
join catalog.document_version v on v.document_id = o.document_id and v.digest = any (:'digests'::text[])
where d.use_case = :'use_case' and d.kind = 'documents';

-- earlier_facts --
-- What the runs told that this one does again.
with recursive earlier as (
    select r.previous_run_id from lineage.run r where r.run_id = :'run'::uuid
    union
    select r.previous_run_id from earlier e join lineage.run r on r.run_id = e.previous_run_id
)
select r.facts from earlier e join lineage.run r on r.run_id = e.previous_run_id order by r.started_at;

-- versions --
-- Every version of a use case's datasets, newest first, with what came in and went out with it.
select d.kind as dataset, v.version, v.digest, (v.counts ->> 'rows')::int as rows, v.counts -> 'by_label' as splits,
       case d.kind
           when 'examples' then (select count(*) from catalog.example_member m where m.dataset_id = d.dataset_id and m.added_in = v.version)
           else (select count(*) from catalog.document_member m where m.dataset_id = d.dataset_id and m.added_in = v.version)
       end as added,
       case d.kind
           when 'examples' then (select count(*) from catalog.example_member m where m.dataset_id = d.dataset_id and m.removed_in = v.version)
           else (select count(*) from catalog.document_member m where m.dataset_id = d.dataset_id and m.removed_in = v.version)
       end as removed,
       v.committed_at
from catalog.dataset d join catalog.dataset_version v using (dataset_id)
where d.use_case = :'use_case'
order by d.kind desc, v.version desc;

-- last_documents --
-- The newest version of each document of which the current corpus holds another one, or none, without their text.
select n.document_key, n.digest, n.text_digest, n.title, n.tenant, n.classification, n.groups, n.owner, n.source, n.status,
       n.fresh_until, n.retain_until, n.first_seen_at, n.uses
from (select distinct on (o.document_id)
             o.document_key, v.document_version_id, v.digest, v.text_digest, v.title, v.tenant, v.classification, v.groups,
             v.owner, v.source, v.status, v.fresh_until, v.retain_until, v.first_seen_at, v.uses
      from catalog.document o join catalog.document_version v using (document_id)
      where o.use_case = :'use_case'
      order by o.document_id, v.document_version_id desc) n
where not exists (select from catalog.dataset d
                  join catalog.document_member m on m.dataset_id = d.dataset_id and m.removed_in is null
                  where d.use_case = :'use_case' and d.kind = 'documents' and m.document_version_id = n.document_version_id);

-- places --
-- Where each document was read last.
select o.document_key, p.source, p.file
from catalog.document_place p join catalog.document o using (document_id)
where o.use_case = :'use_case';

-- insert_places --
-- Writes down where documents were read.
insert into catalog.document_place (document_id, source, file)
select o.document_id, r.source, r.file
from jsonb_to_recordset(:'rows'::jsonb) as r (document_key text, source text, file text)
join catalog.document o on o.use_case = :'use_case' and o.document_key = r.document_key
on conflict (document_id) do update set source = excluded.source, file = excluded.file
where (document_place.source, document_place.file) is distinct from (excluded.source, excluded.file);

-- accepted --
-- What a person has accepted of the findings that commits wait for: the last answer to each counts. A document whose text
-- waited has the same digest, and who accepted its text has not accepted that more people read it.
select f.digest, max(s.decided_at) as decided_at
from catalog.finding f
cross join lateral (
    select d.decision, d.decided_at, d.until from catalog.steward_decision d
    where d.finding_id = f.finding_id order by d.steward_decision_id desc limit 1
) s
where f.use_case = :'use_case' and f.severity = 'waiting' and s.decision = 'accept' and f.digest is not null
  and f.rule in ('rights_widened', 'source_emptied', 'examples_removed')
  and (s.until is null or s.until >= (clock_timestamp() at time zone 'UTC')::date)
group by f.digest;

-- waivers --
-- The rows that a person has accepted in spite of a rule, as of today.
select rule, digest from catalog.waivers where use_case = :'use_case' and in_force;

-- confirmed --
-- What a person has confirmed to stay out, by rule: the last answer counts.
select c.rule, c.digest
from (
    select distinct on (f.rule, f.digest) f.rule, f.digest, d.decision
    from catalog.finding f join catalog.steward_decision d using (finding_id)
    where f.use_case = :'use_case' and f.digest is not null
    order by f.rule, f.digest, d.steward_decision_id desc
) c
where c.decision = 'reject';

-- findings_of_runs --
-- What these runs rejected, or set aside until a person accepts it.
select finding_id as finding, file, line, rule, severity, detail
from catalog.finding
where run_id = any (:'runs'::uuid[]) and severity in ('rejected', 'waiting')
order by finding_id;

-- check_before --
-- What the newest check of a use case that ended well counted of its examples.
select coalesce(o.facts, r.facts) -> 'examples' as examples
from lineage.run r
join lineage.job j using (job_id)
left join lineage.run o on o.run_id = r.reused_from
where j.use_case = :'use_case' and j.name = 'data.check' and r.state in ('succeeded', 'reused')
order by r.started_at desc
limit 1;

-- unstage_rows --
-- Takes away what a run staged, and what runs left that have ended.
delete from catalog.staged_row s
where s.run_id = :'run'::uuid or not exists (select from lineage.run r where r.run_id = s.run_id and r.state = 'running');

-- newest_snapshot --
-- The standing snapshot of a use case with this name and key that a run registered last.
select v.version_id, a.kind, v.digest
from lineage.artifact a
join lineage.artifact_version v using (artifact_id)
join lineage.run_output o using (version_id)
where a.use_case = :'use_case' and a.kind = 'snapshot' and a.name = :'name' and v.purged_at is null and v.meta ->> 'key' = :'key'
order by o.registered desc
limit 1;

-- described_examples --
-- What may differ between two rows with one question; nothing of an erased one.
select r.digest, r.kind, r.subject, r.documents, r.content
from (select digest, kind, subject, documents, content from catalog.example where use_case = :'use_case'
      union all
      select digest, kind, subject, documents, content from catalog.locked_example where use_case = :'use_case') r
join unnest(:'digests'::text[]) as wanted (digest) using (digest)
where r.content is not null
order by r.digest;

-- described_documents --
-- What may differ between two versions of a document: of its text, the digest.
select v.digest, o.document_key, v.text_digest as text, v.title, v.tenant, v.classification, v.groups, v.owner, v.source, v.status,
       v.fresh_until, v.retain_until, v.subject, v.uses
from catalog.document o join catalog.document_version v using (document_id)
join unnest(:'digests'::text[]) as wanted (digest) using (digest)
where o.use_case = :'use_case'
order by v.digest;

-- newest_card --
-- The newest card of a dataset version.
select o.version_id, r.params -> 'versions' as versions
from lineage.run r
join lineage.job j using (job_id)
join lineage.run_output o on o.run_id = coalesce(r.reused_from, r.run_id) and o.role = 'card'
where j.use_case = :'use_case' and j.name = 'data.card' and r.state in ('succeeded', 'reused')
  and (r.params -> 'versions' ->> 'dataset')::int = :'version'::int
order by r.started_at desc
limit 1;

-- worklist --
-- What the newest check and commit of a use case left out and nobody has decided.
select w.finding_id as finding, w.file, w.line, w.rule, w.severity, w.detail
from catalog.worklist w
where w.use_case = :'use_case'
  and not exists (select from catalog.worklist n where n.use_case = w.use_case and n.digest = w.digest and n.rule = w.rule
                  and n.file = w.file and n.line is not distinct from w.line and n.finding_id > w.finding_id)
order by w.finding_id;

-- insert_steward_decision --
-- A person's answer to a finding.
insert into catalog.steward_decision (finding_id, decision, person, reason, until)
values (:'finding'::bigint, :'decision', :'person', :'reason', :'until'::date);

-- example --
-- The rows of a use case whose digests begin so; the text of those that are locked, or were erased, is null.
select e.digest, e.kind, e.source, e.split, e.documents, e.content
from catalog.example e
where e.use_case = :'use_case' and e.digest like :'begins' || '%'
union all
select l.digest, l.kind, l.source, l.split, l.documents, null
from catalog.locked_example l
where l.use_case = :'use_case' and l.digest like :'begins' || '%'
order by digest
limit 2;

-- insert_reading --
-- Writes down that a person has the text of a row shown.
insert into catalog.example_reading (use_case, digest, reader) values (:'use_case', :'digest', :'reader');
