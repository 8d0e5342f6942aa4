-- live_model --
-- The model that is live and the decision that let it through, with the last answer to it.
select l.deployment_id, l.model_digest, l.index_digest, l.promoted_by, l.valid_from, n.decision_id, n.night, n.requested_by,
       n.outcome, n.checks, n.answer, n.person
from lineage.live l
join lineage.nightly_results n on n.use_case = l.use_case and n.candidate_digest = l.model_digest and n.deployment_id is not null
where l.use_case = :'use_case' and l.alias = 'live'
order by n.decision_id desc
limit 1;

-- decision --
-- A decision about a model, with its checks and the last answer to it.
select decision_id, night, requested_by, candidate_digest, outcome, checks, needs_person, answer, person, reason, deployment_id
from lineage.nightly_results
where decision_id = :'decision'::bigint;

-- results_behind --
-- The measured results that a decision rests on: subject, and the metrics with and without retrieval.
select replace(e.key, 'evaluation.', '') as subject, e.value as digest, r.facts
from release.decision d
cross join lateral jsonb_each_text(d.evidence) e
cross join lateral (
    select r.facts
    from lineage.artifact_version v
    join lineage.run_output o using (version_id)
    join lineage.run r on r.run_id = o.run_id
    where v.digest = e.value and r.state = 'succeeded'
    order by r.started_at
    limit 1
) r
where d.decision_id = :'decision'::bigint and e.key like 'evaluation.%'
order by array_position(array['base', 'sft', 'champion', 'candidate'], replace(e.key, 'evaluation.', ''));
