-- insert_suite --
-- Records a suite; returns nothing where it is known.
insert into eval.suite (use_case, name, digest, gated, cases)
values (:'use_case', :'name', :'digest', :'gated'::boolean, :'cases'::int)
on conflict (use_case, name, digest) do nothing
returning suite_id;

-- suite --
-- A suite by its identity.
select suite_id from eval.suite where use_case = :'use_case' and name = :'name' and digest = :'digest';

-- insert_cases --
-- Records a suite's cases.
insert into eval.suite_case (suite_id, case_key, digest, question, principal, expect, tags)
select :'suite'::bigint, r.case_key, r.digest, r.question, r.principal, r.expect,
       array(select jsonb_array_elements_text(r.tags))
from jsonb_to_recordset(:'rows'::jsonb)
     as r (case_key text, digest text, question text, principal text, expect jsonb, tags jsonb);

-- insert_evaluation --
-- Records one suite's evaluation under one condition.
insert into eval.evaluation (use_case, run_id, suite_id, subject, model_version_id, index_version_id, artifact_version_id, metrics)
values (:'use_case', :'run'::uuid, :'suite'::bigint, :'subject', :'model'::bigint, :'index'::bigint, :'artifact'::bigint,
        :'metrics'::jsonb)
returning evaluation_id;

-- insert_results --
-- Records an evaluation's answers and scores.
insert into eval.result (evaluation_id, case_id, scores, answer, answer_digest, documents, seconds)
select :'evaluation'::bigint, c.case_id, r.scores, r.answer, r.answer_digest,
       array(select jsonb_array_elements_text(r.documents)), r.seconds
from jsonb_to_recordset(:'rows'::jsonb)
     as r (case_key text, scores jsonb, answer text, answer_digest text, documents jsonb, seconds real)
join eval.suite_case c on c.suite_id = :'suite'::bigint and c.case_key = r.case_key;

-- locked_rows --
-- The rows of the locked test split, by a reading that was announced.
select digest, kind, content from catalog.read_locked(:'reading'::bigint);

-- precision --
-- What the newest preflight of a use case found models to be computed in best, on this machine.
select coalesce(o.facts, r.facts) #>> '{precision,dtype}' as dtype
from lineage.run r
join lineage.job j on j.job_id = r.job_id and j.use_case = :'use_case' and j.name = 'training.preflight'
left join lineage.run o on o.run_id = r.reused_from
where r.state in ('succeeded', 'reused') and coalesce(o.facts, r.facts) #>> '{precision,dtype}' is not null
order by r.started_at desc
limit 1;

-- base_of --
-- The base model which an adapter was trained on, as its training run pinned it.
select v.version_id, v.digest, v.meta, a.name
from lineage.run_output o
join lineage.run r on r.run_id = o.run_id and r.state = 'succeeded'
join lineage.run_input i on i.run_id = r.run_id and i.role = 'base'
join lineage.artifact_version v on v.version_id = i.version_id
join lineage.artifact a on a.artifact_id = v.artifact_id and a.kind = 'base_model'
where o.version_id = :'version_id'::bigint
order by r.started_at desc
limit 1;

-- document_keys --
-- The ids of the documents of a use case as they were committed last.
select distinct d.document_key
from catalog.dataset s
join catalog.document_member m on m.dataset_id = s.dataset_id and m.removed_in is null
join catalog.document_version v using (document_version_id)
join catalog.document d using (document_id)
where s.use_case = :'use_case' and s.kind = 'documents' and v.status = 'approved';
