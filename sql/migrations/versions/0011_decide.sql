-- Decisions come from functions alone, which read what they say from rows; principals from the run of a plan; and what was
-- erased is given back as it was or not at all.
set local role nightshift_owner;

alter table release.decision add why text;
create or replace view lineage.nights as
select n.use_case, n.night, n.started_at, n.ended_at, n.runs, n.reused, n.failed,
       case when n.running > 0 then 'running'
            when n.failed > 0 then 'failed'
            when n.gate_run is not null then 'finished'
            when exists (select from lineage.run_history h
                         join lineage.run_output o on o.run_id = h.run_id
                         join lineage.artifact_version v on v.version_id = o.version_id
                         join lineage.artifact a on a.artifact_id = v.artifact_id and a.kind = 'adapter' and a.name = 'candidate'
                         join lineage.deployment w on w.use_case = n.use_case and w.model_version_id = v.version_id
                              and w.valid_from <= n.ended_at and (w.valid_to is null or w.valid_to > n.started_at)
                         where h.use_case = n.use_case and h.dag_run_id = n.night and h.dag_id = n.use_case || '_retrain')
            then 'unchanged'
            else 'incomplete' end as state,
       d.decision_id, d.outcome, d.needs_person
from (
    select h.use_case, coalesce(h.dag_run_id, h.run_id::text) as night, min(h.started_at) as started_at,
           max(h.ended_at) as ended_at, count(*) as runs, count(*) filter (where h.state = 'reused') as reused,
           count(*) filter (where h.state in ('failed', 'lost')) as failed, count(*) filter (where h.state = 'running') as running,
           (array_agg(coalesce(h.reused_from, h.run_id) order by h.started_at desc)
               filter (where h.job = 'release.gate' and h.state in ('succeeded', 'reused')))[1] as gate_run
    from lineage.run_history h
    where h.dag_id = h.use_case || '_retrain' or (h.orchestrator = 'cli' and h.job = 'release.gate')
    group by h.use_case, coalesce(h.dag_run_id, h.run_id::text)
) n
left join lateral (
    select d.decision_id, d.outcome, d.needs_person from release.decision d where d.run_id = n.gate_run order by d.decision_id desc limit 1
) d on true;

alter table catalog.example add text_digest text not null default '';
alter table catalog.locked_example add text_digest text not null default '';
update catalog.example set text_digest = encode(sha256(convert_to(content::text, 'UTF8')), 'hex') where content is not null;
update catalog.locked_example set text_digest = encode(sha256(convert_to(content::text, 'UTF8')), 'hex') where content is not null;

-- keep_text: a text whose digest stands is erased or given back, and never rewritten, whoever may update the column.
create or replace function catalog.keep_text() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_column text := tg_argv[0];
    v_old jsonb := to_jsonb(old) -> v_column;
    v_new jsonb := to_jsonb(new) -> v_column;
begin
    if v_old <> 'null' and v_new <> 'null' and v_old <> v_new then
        raise exception 'the text of %.% stands under its digest and is not rewritten: another text is another version',
            tg_table_schema, tg_table_name using errcode = 'NS016';
    end if;
    if v_old = 'null' and v_new <> 'null'
       and encode(sha256(convert_to(v_new #>> '{}', 'UTF8')), 'hex') <> to_jsonb(new) ->> 'text_digest' then
        raise exception 'the text that is given back to %.% is not the one that was erased', tg_table_schema, tg_table_name
            using errcode = 'NS016';
    end if;
    return new;
end
$$;

create function catalog.digest_text() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    new.text_digest := encode(sha256(convert_to(new.content::text, 'UTF8')), 'hex');
    return new;
end
$$;
create trigger text_is_digested before insert on catalog.example
for each row execute function catalog.digest_text();
create trigger text_is_digested before insert on catalog.locked_example
for each row execute function catalog.digest_text();
create or replace function release.check_rollback(new release.decision) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from lineage.deployment d
                   where d.use_case = new.use_case and d.valid_to is not null
                     and d.model_version_id is not distinct from new.model_version_id
                     and d.index_version_id is not distinct from new.index_version_id) then
        raise exception 'this pair of model and index was never live in use case %', new.use_case using errcode = 'NS024';
    elsif new.model_version_id is null
       and not exists (select from jsonb_array_elements(new.checks) c where c ->> 'name' = 'registry.to_nothing') then
        raise exception 'this pair has no model: nothing would answer' using errcode = 'NS024';
    elsif not new.needs_person and release.rollback_asks(new.use_case, new.model_version_id, new.index_version_id) then
        raise exception 'a second person has to agree to this rollback' using errcode = 'NS024';
    elsif not exists (select from release.person p where p.name = release.person_of(new.requested_by) and p.ended_at is null) then
        raise exception '% is no person who may roll back', new.requested_by using errcode = 'NS025';
    elsif coalesce(btrim(new.why), '') = '' then
        raise exception 'a rollback has a reason' using errcode = 'NS024';
    end if;
end
$$;
-- The three ways to a decision. No login writes the table: what a decision says is read from rows by ids, and what is measured
-- outside, the gate's verdicts, is all that its login adds.

-- decide_model: what the gate's verdicts come to, about the candidate that its run looked at, against the deployment that it
-- compared it with.
create function release.decide_model(p_run uuid, p_policy bigint, p_replaces bigint, p_checks jsonb) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_run lineage.run;
    v_use_case text;
    v_model bigint;
    v_outcome text;
    v_evidence jsonb;
    v_decision bigint;
begin
    perform lineage.permitted('release.gate');
    select r.* into v_run from lineage.run r join lineage.job j on j.job_id = r.job_id and j.name = 'release.gate' where r.run_id = p_run;
    if v_run.run_id is null then
        raise exception 'run % is no gate', p_run using errcode = 'NS024';
    end if;
    select j.use_case into v_use_case from lineage.job j where j.job_id = v_run.job_id;
    select i.version_id into v_model from lineage.run_input i where i.run_id = p_run and i.role = 'candidate';
    if jsonb_typeof(p_checks) is distinct from 'array' then
        raise exception 'the verdicts of a gate are a list' using errcode = 'NS024';
    end if;
    select case when count(*) = 0 or bool_or(c ->> 'verdict' is null or c ->> 'verdict' not in ('pass', 'condition')) then 'block'
                when bool_or(c ->> 'verdict' = 'condition') then 'approve_with_conditions' else 'approve' end
    into v_outcome from jsonb_array_elements(p_checks) c;
    select coalesce(jsonb_object_agg(e.name, e.digest), '{}') into v_evidence from (
        select 'policy' as name, p.digest from release.policy p where p.policy_id = p_policy
        union all
        select 'report', v.digest from lineage.run_output o join lineage.artifact_version v using (version_id)
        where o.run_id = p_run and o.role = 'report'
        union all
        select i.role, v.digest
        from lineage.run_input i
        join lineage.artifact_version v using (version_id)
        join lineage.artifact a on a.artifact_id = v.artifact_id and a.kind = 'evaluation'
        where i.run_id = p_run
    ) e;
    insert into release.decision (use_case, kind, policy_id, run_id, model_version_id, index_version_id, replaces, outcome, checks,
                                  evidence, needs_person, requested_by)
    values (v_use_case, 'model', p_policy, p_run, v_model,
            (select d.index_version_id from lineage.deployment d where d.deployment_id = p_replaces), p_replaces, v_outcome, p_checks,
            v_evidence, v_outcome = 'approve_with_conditions' or release.asks_a_person(p_policy), v_run.requested_by)
    returning decision_id into v_decision;
    return v_decision;
end
$$;

-- decide_index: what the gates of the generation that a swap's run is about came to, beside the model that is live.
create function release.decide_index(p_run uuid) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_run lineage.run;
    v_use_case text;
    v_index bigint;
    v_gates jsonb;
    v_decision bigint;
begin
    perform lineage.permitted('retrieval.swap');
    select r.* into v_run from lineage.run r join lineage.job j on j.job_id = r.job_id and j.name = 'retrieval.swap' where r.run_id = p_run;
    if v_run.run_id is null then
        raise exception 'run % is no swap of an index', p_run using errcode = 'NS024';
    end if;
    select j.use_case into v_use_case from lineage.job j where j.job_id = v_run.job_id;
    select i.version_id into v_index from lineage.run_input i where i.run_id = p_run and i.role = 'generation';
    select g.gates into v_gates from rag.generation g
    where g.use_case = v_use_case and g.artifact_version_id = v_index and g.state in ('attached', 'live', 'retired');
    insert into release.decision (use_case, kind, run_id, model_version_id, index_version_id, replaces, outcome, checks, evidence,
                                  needs_person, requested_by)
    select v_use_case, 'index', p_run, l.model_version_id, v_index, l.deployment_id,
           case when jsonb_typeof(v_gates) = 'object' and v_gates ?& array['recall', 'leaks']
                     and not exists (select from jsonb_each(v_gates) t where (t.value ->> 'passed') is distinct from 'true')
                then 'approve' else 'block' end,
           coalesce((select jsonb_agg(jsonb_build_object('check', t.key) || t.value order by t.key) from jsonb_each(v_gates) t), '[]'),
           (select coalesce(jsonb_object_agg(case i.role when 'report' then 'gates' else i.role end, v.digest), '{}')
            from lineage.run_input i join lineage.artifact_version v using (version_id) where i.run_id = p_run),
           false, v_run.requested_by
    from (select 1) one
    left join lineage.deployment l on l.use_case = v_use_case and l.alias = 'live' and l.valid_to is null
    returning decision_id into v_decision;
    return v_decision;
end
$$;

-- decide_rollback: a person's wish to go back to the pair of an earlier deployment. Whose wish it is, is whose login this session
-- is; the worker that hands on Airflow's logins names somebody who is known. `checks`: whether model and index stand.
create function release.decide_rollback(p_to bigint, p_person text, p_why text, p_checks jsonb) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_to lineage.deployment;
    v_person text := coalesce(release.whoami(), release.person_of(p_person));
    v_decision bigint;
begin
    perform lineage.permitted('release.rollback');
    select * into v_to from lineage.deployment d where d.deployment_id = p_to;
    if v_to.deployment_id is null then
        raise exception 'there is no deployment %', p_to using errcode = 'NS021';
    elsif exists (select from jsonb_array_elements(p_checks) c where c ->> 'verdict' is distinct from 'pass') then
        raise exception 'the pair of deployment % does not stand any more', p_to using errcode = 'NS024';
    end if;
    insert into release.decision (use_case, kind, model_version_id, index_version_id, replaces, outcome, checks, evidence, needs_person,
                                  requested_by, why)
    select v_to.use_case, 'rollback', v_to.model_version_id, v_to.index_version_id, l.deployment_id, 'approve', p_checks,
           (select coalesce(jsonb_object_agg(case v.version_id when v_to.model_version_id then 'model' else 'index' end, v.digest), '{}')
            from lineage.artifact_version v where v.version_id in (v_to.model_version_id, v_to.index_version_id)),
           release.rollback_asks(v_to.use_case, v_to.model_version_id, v_to.index_version_id),
           coalesce(v_person, 'unknown:' || left(coalesce(p_person, ''), 200)), p_why
    from (select 1) one
    left join lineage.deployment l on l.use_case = v_to.use_case and l.alias = v_to.alias and l.valid_to is null
    returning decision_id into v_decision;
    return v_decision;
end
$$;

drop function lineage.promote(text, text, bigint, bigint, bigint, bigint, text, text);
drop function rag.swap(int, bigint, bigint, text, text);
-- promote: promotion, rollback and index swap alike: the pair that a decision is about goes live. Compare-and-set: it ends the
-- deployment that the decision was made against, and refuses when another one is live by now. Who let it through is the person
-- who approved it or, where none was needed, who asked for it.
create function lineage.promote(p_decision bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_decision release.decision;
    v_approver text;
    v_live bigint;
    v_deployment bigint;
    v_now timestamptz;
begin
    select * into v_decision from release.decision d where d.decision_id = p_decision;
    if v_decision.decision_id is null then
        raise exception 'there is no decision %', p_decision using errcode = 'NS021';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('lineage.promote/' || v_decision.use_case || '/live', 0));
    -- Locked, so that an answer which comes in meanwhile is before it or after it.
    perform from release.decision d where d.decision_id = p_decision for update;
    if session_user = 'pipeline' and v_decision.kind <> 'index' then
        raise exception 'the login pipeline makes no model live' using errcode = 'NS030';
    end if;
    if v_decision.outcome = 'block' then
        raise exception 'decision % blocked what it looked at', p_decision using errcode = 'NS023';
    end if;
    if exists (select from lineage.artifact_version v
               where v.version_id in (v_decision.model_version_id, v_decision.index_version_id) and v.purged_at is not null)
       or (v_decision.index_version_id is not null and not exists (
           select from rag.generation g where g.artifact_version_id = v_decision.index_version_id and g.use_case = v_decision.use_case
                                          and g.state in ('attached', 'live', 'retired') and rag.standing(g.generation_id))) then
        raise exception 'what decision % is about does not stand any more', p_decision using errcode = 'NS023';
    end if;
    select a.person into v_approver from release.approval a where a.decision_id = p_decision and a.answer = 'approve';
    if exists (select from release.approval a where a.decision_id = p_decision and a.answer in ('reject', 'timeout', 'superseded'))
       or (v_decision.needs_person and v_approver is null) then
        raise exception 'decision % has no approval by a person', p_decision using errcode = 'NS023';
    end if;
    select d.deployment_id into v_live from lineage.deployment d
    where d.use_case = v_decision.use_case and d.alias = 'live' and d.valid_to is null for update;
    if v_live is distinct from v_decision.replaces then
        raise exception 'deployment % of % is live, not % which the decision was made against',
            coalesce(v_live::text, 'none'), v_decision.use_case, coalesce(v_decision.replaces::text, 'none') using errcode = 'NS002';
    end if;
    v_now := clock_timestamp();
    if v_now < (select d.valid_from from lineage.deployment d where d.deployment_id = v_live) or v_now < v_decision.decided_at then
        raise exception 'the clock went back: what is live or was decided is of later than %', v_now using errcode = 'NS026';
    end if;
    update lineage.deployment d set valid_to = v_now where d.deployment_id = v_live;
    insert into lineage.deployment (use_case, alias, model_version_id, index_version_id, decision_id, replaces, promoted_by, why, valid_from)
    values (v_decision.use_case, 'live', v_decision.model_version_id, v_decision.index_version_id, p_decision, v_decision.replaces,
            coalesce(v_approver, v_decision.requested_by),
            concat_ws('; ', v_decision.why, coalesce('approved by ' || v_approver, case v_decision.kind
                when 'index' then 'the index passed its gates' when 'model' then 'it needed no approval' end)), v_now)
    returning deployment_id into v_deployment;
    return v_deployment;
end
$$;

-- swap: replays, then makes the generation that a decision is about live through promote. In one transaction.
create function rag.swap(p_decision bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '30s' as $$
declare
    v_generation rag.generation;
begin
    select g.* into v_generation from release.decision d
    join rag.generation g on g.use_case = d.use_case and g.artifact_version_id = d.index_version_id
                             and g.state in ('attached', 'live', 'retired')
    where d.decision_id = p_decision and d.kind = 'index';
    if v_generation.generation_id is null then
        raise exception 'decision % is about no index that stands', p_decision using errcode = 'NS011';
    end if;
    perform rag.replay(v_generation.generation_id);
    select * into v_generation from rag.generation g where g.generation_id = v_generation.generation_id for update;
    if v_generation.state not in ('attached', 'retired') or not rag.standing(v_generation.generation_id) then
        raise exception 'index generation % is %, not attached', v_generation.generation_id, v_generation.state using errcode = 'NS011';
    end if;
    return lineage.promote(p_decision);
end
$$;

-- sync_principals: makes the principals of a use case those that a plan's run was begun with; what is equal is not touched. So each
-- change of a right has a run that says whose login, when, and what the YAML said. A plan that ended before cannot be taken up
-- again: it may give rights that were taken since.
create function rag.sync_principals(p_run uuid) returns table (changed bigint, removed bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_use_case text;
    v_principals jsonb;
begin
    perform lineage.permitted('retrieval.plan');
    select j.use_case, r.params -> 'principals' into v_use_case, v_principals
    from lineage.run r
    join lineage.job j on j.job_id = r.job_id and j.name = 'retrieval.plan'
    join lineage.attempt a on a.run_id = r.run_id and a.login = session_user and a.state in ('running', 'succeeded')
    where r.run_id = p_run
      and not exists (select from lineage.run n where n.job_id = r.job_id and n.started_at > r.started_at and n.state = 'succeeded');
    if v_use_case is null or jsonb_typeof(v_principals) is distinct from 'array' then
        raise exception 'run % is not the newest plan of an index by the login %, with principals', p_run, session_user using errcode = 'NS030';
    end if;
    return query
    with wanted as (
        select p.name, p.tenant, p.groups, p.clearance
        from jsonb_to_recordset(v_principals) as p (name text, tenant text, groups text[], clearance text)
    ), gone as (
        delete from rag.principal o where o.use_case = v_use_case and o.name not in (select w.name from wanted w)
        returning 1
    ), written as (
        insert into rag.principal as o (use_case, name, tenant, groups, clearance)
        select v_use_case, w.name, w.tenant, w.groups, w.clearance from wanted w
        on conflict (use_case, name) do update
        set tenant = excluded.tenant, groups = excluded.groups, clearance = excluded.clearance
        where (o.tenant, o.groups, o.clearance) is distinct from (excluded.tenant, excluded.groups, excluded.clearance)
        returning 1
    )
    select (select count(*) from written), (select count(*) from gone);
end
$$;

-- A column that is not null changed what a row's digest is of.
do $$
begin
    perform audit.cover('catalog.example', '{use_case, digest, split}', '{content}');
    perform audit.cover('catalog.locked_example', '{use_case, digest, split}', '{content}');
end
$$;

revoke insert on release.decision from pipeline, gatekeeper, approver;
revoke insert, update, delete on rag.principal from pipeline;
do $$
declare
    v_column record;
begin
    for v_column in
        select c.table_schema, c.table_name, c.column_name, l.login
        from information_schema.columns c
        join (values ('release', 'decision', 'pipeline'), ('release', 'decision', 'gatekeeper'), ('release', 'decision', 'approver'),
                     ('rag', 'principal', 'pipeline')) l (table_schema, table_name, login) using (table_schema, table_name)
    loop
        execute format('revoke insert (%I) on %I.%I from %I', v_column.column_name, v_column.table_schema, v_column.table_name,
                       v_column.login);
    end loop;
end
$$;
grant insert (text_digest) on catalog.example, catalog.locked_example to pipeline; -- which its trigger overwrites
grant execute on function lineage.promote to approver;
grant execute on function rag.swap, rag.sync_principals to pipeline;
grant execute on function release.decide_model to gatekeeper;
grant select on rag.generation to gatekeeper;
grant execute on function release.decide_index to pipeline;
grant execute on function release.decide_rollback to approver;

reset role;
