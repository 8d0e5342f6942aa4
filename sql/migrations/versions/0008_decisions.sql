-- The gate has a login of its own; every kind of decision is checked where it is written; the policy that counts is the one
-- that was in force when the training began.
do $$
begin
    if not exists (select from pg_roles where rolname = 'gatekeeper') then
        create role gatekeeper login nosuperuser nocreatedb nocreaterole nobypassrls noinherit;
    end if;
    execute format('grant connect on database %I to gatekeeper', current_database());
    execute format('alter role gatekeeper in database %I set timezone to ''UTC''', current_database());
    execute format('alter role gatekeeper in database %I set lock_timeout = ''5min''', current_database());
    execute format('alter role gatekeeper in database %I set statement_timeout = ''2h''', current_database());
    execute format('alter role gatekeeper in database %I set idle_in_transaction_session_timeout = ''30min''', current_database());
end
$$;
set local role nightshift_owner;

update lineage.permission set login = 'evaluator' where job = 'retrieval.check';
update lineage.permission set login = 'gatekeeper' where job = 'release.gate';
insert into lineage.permission (login, job, kinds) values ('approver', 'release.rollback', '{}');

-- asks_a_person: whether what a policy governs needs a person's approval. Follows from the risk tier; a policy that does not
-- say its tier, or says of a high one that it asks nobody, asks.
create or replace function release.asks_a_person(p_policy bigint) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce((select (p.content ->> 'asks_a_person')::boolean or p.content ->> 'risk_tier' = 'high'
                            or p.content ->> 'risk_tier' is null
                     from release.policy p where p.policy_id = p_policy), true)
$$;

-- in_force: the policy that was sealed last at a moment; null where none was.
create or replace function release.in_force(p_use_case text, p_at timestamptz) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select s.policy_id from release.sealing s
    where s.use_case = p_use_case and s.sealed_at <= p_at order by s.sealed_at desc, s.sealing_id desc limit 1
$$;

-- trained_at: when the training of these weights first began: the first run that gave them, or an adapter that they are of.
create or replace function release.trained_at(p_use_case text, p_digest text) returns timestamptz
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select min(r.started_at)
    from lineage.artifact_version v
    join lineage.artifact a on a.artifact_id = v.artifact_id and a.use_case = p_use_case
    cross join lateral lineage.ancestry(v.version_id) u
    join lineage.artifact_version w on w.version_id = u.version_id
    join lineage.artifact k on k.artifact_id = w.artifact_id and k.kind in ('adapter', 'merged_model')
    join lineage.run_output o on o.version_id = w.version_id
    join lineage.run r on r.run_id = o.run_id and r.state = 'succeeded'
    where v.digest = p_digest
$$;

-- rollback_asks: whether a second person must agree before this pair is live again. One person alone goes back to the pair
-- before the live one, which is the fast way out of trouble; not to nothing or further back where the policy asks a person,
-- and in no tier to a model that a rollback took out.
create or replace function release.rollback_asks(p_use_case text, p_model bigint, p_index bigint) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (
        select from lineage.deployment d
        join lineage.deployment n on n.replaces = d.deployment_id and n.model_version_id is distinct from d.model_version_id
        join release.decision c on c.decision_id = n.decision_id and c.kind = 'rollback'
        where d.use_case = p_use_case and d.model_version_id = p_model
    ) or (release.asks_a_person(release.in_force(p_use_case, clock_timestamp())) and not exists (
        select from lineage.deployment l
        join lineage.deployment b on b.deployment_id = l.replaces
        where l.use_case = p_use_case and l.valid_to is null and b.model_version_id is not null
          and b.model_version_id = p_model and b.index_version_id is not distinct from p_index))
$$;

-- unproven: why the evaluations of a gate's run do not speak for a decision about a model; null where they do. Each comes from
-- a finished run of the login `evaluator` in this use case; one is of the candidate, on the index that would go live and on
-- the suites that were sealed; one is of the model that would be replaced, or of the base model where there is none.
create or replace function release.unproven(p_decision release.decision) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_suites jsonb;
    v_champion bigint;
begin
    select p.content -> 'suites' into v_suites from release.policy p where p.policy_id = p_decision.policy_id;
    select d.model_version_id into v_champion from lineage.deployment d where d.deployment_id = p_decision.replaces;
    if coalesce(jsonb_array_length(v_suites), 0) = 0 then
        return 'the policy seals no suite';
    end if;
    if not exists (select from lineage.run_input i where i.run_id = p_decision.run_id and i.version_id = p_decision.model_version_id) then
        return 'the gate''s run did not look at this candidate';
    end if;
    if exists (
        select from lineage.run_input i
        join lineage.artifact_version v using (version_id)
        join lineage.artifact a on a.artifact_id = v.artifact_id and a.kind = 'evaluation'
        where i.run_id = p_decision.run_id and (a.use_case <> p_decision.use_case or not exists (
            select from lineage.run_output o join lineage.run r on r.run_id = o.run_id and r.state = 'succeeded'
            where o.version_id = i.version_id) or exists (
            select from lineage.run_output o
            join lineage.run r on r.run_id = o.run_id and r.state = 'succeeded'
            join lineage.job j on j.job_id = r.job_id
            left join lineage.attempt t on t.run_id = r.run_id and t.state = 'succeeded'
            where o.version_id = i.version_id
              and (j.name <> 'evaluation.evaluate' or t.login is distinct from 'evaluator')))
    ) then
        return 'an evaluation was not made by the login evaluator';
    end if;
    if not exists (
        select from lineage.run_input i
        join lineage.run_output o on o.version_id = i.version_id
        join lineage.run r on r.run_id = o.run_id and r.state = 'succeeded'
        join lineage.job j on j.job_id = r.job_id and j.name = 'evaluation.evaluate'
        where i.run_id = p_decision.run_id
          and exists (select from lineage.run_input c where c.run_id = r.run_id and c.version_id = p_decision.model_version_id)
          and not exists (select from lineage.run_input x
                          join lineage.artifact_version v using (version_id)
                          join lineage.artifact a on a.artifact_id = v.artifact_id and a.kind = 'index_generation'
                          where x.run_id = r.run_id and x.version_id is distinct from p_decision.index_version_id)
          and not exists (select from jsonb_array_elements(v_suites) s
                          where not coalesce(r.params -> 'suites' @> jsonb_build_array(s), false))
    ) then
        return 'the candidate was not evaluated on the sealed suites and this index';
    end if;
    if not exists (
        select from lineage.run_input i
        join lineage.run_output o on o.version_id = i.version_id
        join lineage.run r on r.run_id = o.run_id and r.state = 'succeeded'
        join lineage.job j on j.job_id = r.job_id and j.name = 'evaluation.evaluate'
        where i.run_id = p_decision.run_id
          and case when v_champion is null
              then not exists (select from lineage.run_input x
                               join lineage.artifact_version v using (version_id)
                               join lineage.artifact a on a.artifact_id = v.artifact_id and a.kind = 'adapter'
                               where x.run_id = r.run_id)
              else exists (select from lineage.run_input x
                           join lineage.artifact_version v using (version_id)
                           join lineage.artifact_version c on c.digest = v.digest and c.version_id = v_champion
                           where x.run_id = r.run_id) end
    ) then
        return 'what the candidate is compared with was not evaluated';
    end if;
    return null;
end
$$;

create or replace function release.check_model(new release.decision) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_policy release.policy;
    v_run lineage.run;
    v_unproven text;
begin
    select * into v_policy from release.policy p where p.policy_id = new.policy_id;
    select r.* into v_run from lineage.run r
    join lineage.job j on j.job_id = r.job_id and j.name = 'release.gate' and j.use_case = new.use_case
    where r.run_id = new.run_id
      and exists (select from lineage.attempt a where a.run_id = r.run_id and a.login = session_user);
    if v_policy.use_case is distinct from new.use_case then
        raise exception 'policy % is none of use case %', new.policy_id, new.use_case using errcode = 'NS024';
    elsif v_run.run_id is null then
        raise exception 'run % is no gate of % by the login %', new.run_id, new.use_case, session_user using errcode = 'NS024';
    elsif v_policy.sealed_at > v_run.started_at then
        raise exception 'policy % was sealed after its gate began', new.policy_id using errcode = 'NS024';
    elsif v_run.requested_by <> new.requested_by then
        raise exception 'the gate was asked for by %, not by %', v_run.requested_by, new.requested_by using errcode = 'NS024';
    elsif new.decided_at < v_run.started_at then
        raise exception 'the clock went back: the gate began at %, and it is %', v_run.started_at, new.decided_at using errcode = 'NS026';
    elsif new.outcome = 'block' then
        return;
    end if;
    if not new.needs_person and (new.outcome = 'approve_with_conditions' or release.asks_a_person(new.policy_id)) then
        raise exception 'a person has to answer for this decision' using errcode = 'NS024';
    elsif jsonb_array_length(new.checks) = 0
       or exists (select from jsonb_array_elements(new.checks) c
                  where c ->> 'verdict' is distinct from 'pass'
                    and not (new.outcome = 'approve_with_conditions' and c ->> 'verdict' = 'condition')) then
        raise exception 'a check did not pass: the decision can only block' using errcode = 'NS024';
    elsif release.in_force(new.use_case, clock_timestamp()) is distinct from new.policy_id then
        raise exception 'policy % is not in force: another one was sealed after it', new.policy_id using errcode = 'NS024';
    elsif new.outcome = 'approve'
       and release.in_force(new.use_case, release.trained_at(new.use_case, (select v.digest from lineage.artifact_version v
                                                                            where v.version_id = new.model_version_id)))
           is distinct from new.policy_id then
        raise exception 'policy % was not in force when the training of this model began: a person has to accept that', new.policy_id
            using errcode = 'NS024';
    end if;
    v_unproven := release.unproven(new);
    if v_unproven is not null then
        raise exception '%: the decision can only block', v_unproven using errcode = 'NS024';
    end if;
end
$$;

create or replace function release.check_index(new release.decision) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if new.model_version_id is distinct from
       (select d.model_version_id from lineage.deployment d where d.deployment_id = new.replaces) then
        raise exception 'a new index keeps the model of what it replaces' using errcode = 'NS024';
    elsif not exists (
        select from rag.generation g
        where g.use_case = new.use_case and g.artifact_version_id = new.index_version_id and g.state in ('attached', 'live', 'retired')
          and jsonb_typeof(g.gates) = 'object' and g.gates ?& array['recall', 'leaks']
          and not exists (select from jsonb_each(g.gates) t where (t.value ->> 'passed') is distinct from 'true')
    ) then
        raise exception 'no index generation of % with this content has passed its gates', new.use_case using errcode = 'NS024';
    end if;
end
$$;

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
    end if;
end
$$;

-- check_decision: what a decision may say, and whose login may say it, whichever code path writes the row. A model is approved
-- under the policy that is in force and was in force when its training began, in the name of whoever asked for the gate's run,
-- on evaluations by `evaluator`, with every check passed; an index keeps the model of what it replaces and has passed its
-- gates; a rollback goes to a pair that was live before. What only blocks may say anything.
create or replace function release.check_decision() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform lineage.permitted(case new.kind when 'model' then 'release.gate' when 'index' then 'retrieval.swap' else 'release.rollback' end);
    if new.replaces is not null
       and not exists (select from lineage.deployment d where d.deployment_id = new.replaces and d.use_case = new.use_case) then
        raise exception 'deployment % is none of use case %', new.replaces, new.use_case using errcode = 'NS024';
    end if;
    if new.kind = 'model' then
        perform release.check_model(new);
    elsif new.outcome <> 'block' and new.kind = 'index' then
        perform release.check_index(new);
    elsif new.outcome <> 'block' then
        perform release.check_rollback(new);
    end if;
    return new;
end
$$;

-- promote: promotion, rollback and index swap alike. Compare-and-set: it ends the deployment that the decision was
-- made against, and refuses when another one is live by now. Null expected: nothing may be live.
create or replace function lineage.promote(p_use_case text, p_alias text, p_model bigint, p_index bigint, p_expected bigint,
                                p_decision bigint, p_by text, p_why text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_decision release.decision;
    v_live bigint;
    v_deployment bigint;
    v_now timestamptz;
begin
    perform pg_advisory_xact_lock(hashtextextended('lineage.promote/' || p_use_case || '/' || p_alias, 0));
    -- Locked, so that an answer which comes in meanwhile is before it or after it.
    select * into v_decision from release.decision d where d.decision_id = p_decision for update;
    if v_decision.decision_id is null or v_decision.use_case <> p_use_case then
        raise exception 'decision % is none of use case %', p_decision, p_use_case using errcode = 'NS021';
    end if;
    if session_user = 'pipeline' and v_decision.kind <> 'index' then
        raise exception 'the login pipeline makes no model live' using errcode = 'NS030';
    end if;
    if v_decision.outcome = 'block' then
        raise exception 'decision % blocked what it looked at', p_decision using errcode = 'NS023';
    end if;
    if exists (select from lineage.artifact_version v
               where v.version_id in (p_model, p_index) and v.purged_at is not null)
       or (p_index is not null and not exists (
           select from rag.generation g where g.artifact_version_id = p_index and g.use_case = p_use_case
                                          and g.state in ('attached', 'live', 'retired'))) then
        raise exception 'what decision % is about does not stand any more', p_decision using errcode = 'NS023';
    end if;
    if v_decision.model_version_id is distinct from p_model or v_decision.index_version_id is distinct from p_index
       or v_decision.replaces is distinct from p_expected then
        raise exception 'decision % was about another pair of model and index', p_decision using errcode = 'NS023';
    end if;
    if exists (select from release.approval a where a.decision_id = p_decision and a.answer in ('reject', 'timeout', 'superseded'))
       or (v_decision.needs_person
           and not exists (select from release.approval a where a.decision_id = p_decision and a.answer = 'approve')) then
        raise exception 'decision % has no approval by a person', p_decision using errcode = 'NS023';
    end if;
    select d.deployment_id into v_live from lineage.deployment d
    where d.use_case = p_use_case and d.alias = p_alias and d.valid_to is null for update;
    if v_live is distinct from p_expected then
        raise exception 'deployment % of % is live, not % which the decision was made against',
            coalesce(v_live::text, 'none'), p_use_case, coalesce(p_expected::text, 'none') using errcode = 'NS002';
    end if;
    v_now := clock_timestamp();
    if v_now < (select d.valid_from from lineage.deployment d where d.deployment_id = v_live) or v_now < v_decision.decided_at then
        raise exception 'the clock went back: what is live or was decided is of later than %', v_now using errcode = 'NS026';
    end if;
    update lineage.deployment d set valid_to = v_now where d.deployment_id = v_live;
    insert into lineage.deployment (use_case, alias, model_version_id, index_version_id, decision_id, replaces, promoted_by, why, valid_from)
    values (p_use_case, p_alias, p_model, p_index, p_decision, p_expected, p_by, p_why, v_now)
    returning deployment_id into v_deployment;
    return v_deployment;
end
$$;

revoke execute on function release.supersede from pipeline, approver;
grant execute on function release.supersede to gatekeeper, approver;
revoke execute on function lineage.promote from pipeline;
revoke execute on function rag.record_gates from pipeline;
revoke insert on all tables in schema eval from pipeline;
revoke insert (candidate_id, baseline_id, metric, difference, low, high, confidence, n, method) on eval.comparison from pipeline;

-- The gate: it reads what it rests on, and writes what it found. The approver rolls back.
grant usage on schema lineage, eval, release, rag to gatekeeper;
grant usage on schema rag to approver;
grant select on rag.generation to approver;
grant execute on function rag.replay to approver;
grant select on all tables in schema lineage to gatekeeper;
grant select on all tables in schema release to gatekeeper;
grant select on eval.suite, eval.evaluation, eval.comparison to gatekeeper;
grant execute on function lineage.begin_run, lineage.hold_attempt, lineage.heartbeat, lineage.finish_run, lineage.fail_run to gatekeeper;
grant execute on function release.trained_at, release.in_force to pipeline, gatekeeper, approver;
grant execute on function release.rollback_asks to approver;
grant execute on function rag.record_gates to evaluator;
grant execute on function lineage.what_was_live, lineage.ancestry, lineage.descendants to gatekeeper;

-- What is inserted without a function is inserted without the columns that the database fills in by itself: nobody chooses
-- the time of his own row, or under whose login it was written.
do $$
declare
    v_grant record;
begin
    for v_grant in
        select w.login, c.table_schema, c.table_name, string_agg(quote_ident(c.column_name), ', ' order by c.ordinal_position) as columns
        from (values ('pipeline', 'catalog', null), ('pipeline', 'rag', 'acl_set'),
                     ('pipeline', 'rag', 'embedding_cache'), ('pipeline', 'rag', 'principal'), ('evaluator', 'eval', null),
                     ('approver', 'release', 'waiver'), ('pipeline', 'release', 'decision'), ('gatekeeper', 'release', 'decision'),
                     ('approver', 'release', 'decision'), ('gatekeeper', 'eval', 'comparison')) w (login, table_schema, table_name)
        join information_schema.columns c on c.table_schema = w.table_schema and c.table_name = coalesce(w.table_name, c.table_name)
        join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name and t.table_type = 'BASE TABLE'
        where c.is_identity = 'NO' and coalesce(c.column_default, '') !~* 'clock_timestamp|session_user|now\(\)'
        group by w.login, c.table_schema, c.table_name
    loop
        execute format('grant insert (%s) on %I.%I to %I', v_grant.columns, v_grant.table_schema, v_grant.table_name, v_grant.login);
    end loop;
end
$$;

reset role;
