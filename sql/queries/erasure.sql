-- rows_about --
-- The rows that an erasure is about, by digest.
select kind, digest, split from catalog.rows_about(:'use_case', :'kind', :'reference');

-- examples_about --
-- The examples that an erasure is about, with what their tombstones are made of.
select e.digest, e.kind, e.content, e.subject, e.documents, e.source
from catalog.rows_about(:'use_case', :'about', :'reference') a
join (
    select x.use_case, x.digest, x.kind, x.content, x.subject, x.documents, x.source from catalog.example x
    union all
    select x.use_case, x.digest, x.kind, x.content, x.subject, x.documents, x.source from catalog.locked_example x
) e on e.use_case = :'use_case' and e.digest = a.digest
where a.kind = 'example'
order by e.digest;

-- documents_about --
-- The document versions that an erasure is about, with what their tombstones are made of.
select d.document_key, v.digest, v.text_digest, v.body, v.subject, p.file
from catalog.rows_about(:'use_case', :'about', :'reference') a
join catalog.document_version v using (document_version_id)
join catalog.document d using (document_id)
left join catalog.document_place p using (document_id)
where a.kind = 'document'
order by v.document_version_id;

-- versions_about --
-- The dataset versions that hold one of these rows, and how many of them.
select s.kind, v.version, v.digest, v.artifact_version_id, count(*) as rows,
       bool_or(m.split in ('train', 'validation')) as trained
from catalog.dataset s
join catalog.dataset_version v using (dataset_id)
join (
    select e.dataset_id, e.example_digest as digest, e.split, e.added_in, e.removed_in from catalog.example_member e
    union all
    select d.dataset_id, w.digest, null, d.added_in, d.removed_in
    from catalog.document_member d join catalog.document_version w using (document_version_id)
) m on m.dataset_id = v.dataset_id and m.added_in <= v.version and (m.removed_in is null or m.removed_in > v.version)
where s.use_case = :'use_case' and m.digest = any (:'digests'::text[])
group by s.kind, v.version, v.digest, v.artifact_version_id
order by s.kind, v.version;

-- made_of_versions --
-- What was made of these dataset versions, and whether it is live.
select a.kind, a.name, v.digest, v.purged_at is not null as purged, bool_or(l.deployment_id is not null) as live
from (select distinct d.version_id
      from unnest(:'versions'::bigint[]) as given (version_id)
      cross join lateral lineage.descendants(given.version_id) d) reached
join lineage.artifact_version v using (version_id)
join lineage.artifact a using (artifact_id)
left join lineage.live l on v.version_id in (l.model_version_id, l.index_version_id)
where v.version_id <> all (:'versions'::bigint[])
group by a.kind, a.name, v.version_id, v.digest, v.purged_at
order by v.version_id;

-- chunks_of_documents --
-- The chunks of documents in every index generation that stands.
select g.generation_id, g.state, sum(c.chunks)::bigint as chunks
from rag.generation g
cross join lateral rag.contents(g.generation_id) c
where g.use_case = :'use_case' and g.state in ('attached', 'live', 'retired') and c.document_key = any (:'documents'::text[])
group by g.generation_id, g.state
order by g.generation_id;

-- answers_given --
-- Stored answers that were given from one of these documents, to a question about one of these rows, or by one of these models.
select count(*) as answers
from eval.result r
join eval.evaluation e using (evaluation_id)
join eval.suite_case c using (case_id)
join lineage.artifact_version m on m.version_id = e.model_version_id
where e.use_case = :'use_case' and r.answer is not null
  and (r.documents && :'documents'::text[] or c.expect ->> 'source' = any (:'documents'::text[])
       or c.case_key = any (:'digests'::text[]) or m.digest = any (:'models'::text[]));

-- same_text --
-- Rows that hold one of these texts, too, and would stay. `escaped` are the texts as JSON writes them.
select 'example' as kind, e.digest as name
from catalog.example e
where e.use_case = :'use_case' and e.content is not null and e.digest <> all (:'digests'::text[])
  and exists (select from unnest(:'escaped'::text[]) f where strpos(e.content::text, f) > 0)
union all
select 'example', e.digest
from catalog.locked_example e
where e.use_case = :'use_case' and e.content is not null and e.digest <> all (:'digests'::text[])
  and exists (select from unnest(:'escaped'::text[]) f where strpos(e.content::text, f) > 0)
union all
select distinct 'document', d.document_key
from catalog.document_version v join catalog.document d using (document_id)
where d.use_case = :'use_case' and v.body is not null and v.digest <> all (:'digests'::text[])
  and exists (select from unnest(:'texts'::text[]) f where strpos(v.body, f) > 0)
order by 1, 2;

-- training_now --
-- Trainings that run now: what they hold in memory goes when they end.
select count(*) as running
from lineage.run r join lineage.job j using (job_id)
where j.use_case = :'use_case' and lineage.trains(j.name) and r.state = 'running';

-- erasure --
-- One erasure.
select e.erasure_id, e.use_case, e.kind, e.basis, e.reference, e.reason, e.requested_by, e.requested_at, e.erased_at, e.counts,
       a.answer, a.person, a.reason as answer_reason, a.answered_at
from catalog.erasure e
left join catalog.erasure_answer a on a.erasure_id = e.erasure_id and a.answer <> 'refused'
where e.erasure_id = :'erasure'::bigint and e.use_case = :'use_case';

-- standing --
-- One erasure and where it stands, without whom it is about.
select erasure_id, kind, basis, state, reason, impact, requested_by
from catalog.erasures
where erasure_id = :'erasure'::bigint and use_case = :'use_case';

-- newest_answer --
-- The last answer to an erasure, as it counts.
select answer, person, reason from catalog.erasure_answers
where erasure_id = :'erasure'::bigint
order by erasure_answer_id desc
limit 1;

-- eligible --
-- Who may agree to an erasure in Airflow.
select name, airflow_id from catalog.erasure_eligible(:'erasure'::bigint) where airflow_id is not null;

-- snapshots --
-- The private snapshots of a use case that stand.
select v.version_id, a.use_case, a.name, v.digest
from lineage.artifact_version v
join lineage.artifact a using (artifact_id)
where a.kind = 'snapshot' and v.private and v.purged_at is null and a.use_case = :'use_case'
order by v.version_id;

-- ledgers --
-- The snapshots of examples of a use case and the ledgers that were made of them.
select distinct i.version_id as snapshot, o.version_id as ledger
from lineage.run_output o
join lineage.artifact_version vo on vo.version_id = o.version_id
join lineage.artifact ao on ao.artifact_id = vo.artifact_id and ao.name = 'examples.checked'
join lineage.run_input i on i.run_id = o.run_id
join lineage.artifact_version vi on vi.version_id = i.version_id
join lineage.artifact ai on ai.artifact_id = vi.artifact_id and ai.name = 'examples.fetched'
where ao.use_case = :'use_case' and ai.use_case = :'use_case';

-- erased_rows --
-- The rows that an erasure took, by digest.
select kind, digest, split from catalog.erased_rows where erasure_id = :'erasure'::bigint order by kind, digest;

-- erased_examples --
-- The examples of a use case that were erased, by digest.
select digest from catalog.erased_rows where use_case = :'use_case' and kind = 'example';

-- redacted_versions --
-- The dataset versions of a use case that hold erased rows.
select kind, version, digest, erased from catalog.redacted_versions where use_case = :'use_case' order by kind, version;

-- to_retrain --
-- The models of a use case that were trained on erased rows.
select name, digest, erased_rows, live, purged_at is not null as purged
from lineage.to_retrain where use_case = :'use_case' order by version_id;

-- log_position --
-- How far the write-ahead log has come.
select pg_current_wal_lsn()::text as position, clock_timestamp() as at;

-- due_by_retention --
-- Documents whose dates have all gone by.
select distinct d.use_case, d.document_key
from catalog.document d join catalog.document_version v using (document_id)
where v.body is not null and not catalog.retained(d.use_case, d.document_key)
order by 1, 2;

-- erased_recently --
-- The use cases with an erasure in the last two days: a fetch that ran meanwhile may have kept a row.
select distinct use_case from catalog.erasures where erased_at > clock_timestamp() - interval '2 days' order by use_case;

-- carried_out --
-- An erasure of a use case, if its rows are gone.
select erasure_id from catalog.erasures where erasure_id = :'erasure'::bigint and use_case = :'use_case' and erased_at is not null;

-- purged_snapshots --
-- The private snapshots of a use case that were purged since an erasure was carried out.
select v.digest
from catalog.erasures e
join lineage.artifacts v on v.use_case = e.use_case and v.kind = 'snapshot' and v.private and v.purged_at >= e.erased_at
where e.erasure_id = :'erasure'::bigint and e.use_case = :'use_case'
order by v.version_id;
