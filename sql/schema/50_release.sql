-- Release: thresholds sealed before training, their application, persons' answers, and what they let through.

create table release.policy (
    policy_id bigint generated always as identity primary key,
    use_case text not null,
    digest text not null,
    content jsonb not null,
    sealed_by text not null,
    login text not null default session_user,
    sealed_at timestamptz not null default clock_timestamp(),
    unique (use_case, digest)
);

-- Every sealing, also of thresholds that were sealed before: which policy was in force when. Without it, somebody could
-- seal many policies in advance and choose among them once the results are known.
create table release.sealing (
    sealing_id bigint generated always as identity primary key,
    policy_id bigint not null references release.policy,
    use_case text not null,
    sealed_by text not null,
    login text not null default session_user,
    sealed_at timestamptz not null default clock_timestamp()
);
create index sealing_by_use_case on release.sealing (use_case, sealing_id);

create table release.decision (
    decision_id bigint generated always as identity primary key,
    use_case text not null,
    kind text not null check (kind in ('model', 'index', 'rollback')),
    policy_id bigint references release.policy,
    run_id uuid references lineage.run,
    model_version_id bigint references lineage.artifact_version,
    index_version_id bigint references lineage.artifact_version,
    replaces bigint references lineage.deployment, -- what was live when it was decided
    outcome text not null check (outcome in ('approve', 'approve_with_conditions', 'block')),
    checks jsonb not null,
    evidence jsonb not null, -- digests of the evaluations and reports it rests on
    needs_person boolean not null,
    requested_by text not null,
    login text not null default session_user,
    decided_at timestamptz not null default clock_timestamp(),
    why text, -- a rollback's reason; what the gates found needs none
    check (kind <> 'model' or (policy_id is not null and model_version_id is not null and run_id is not null))
);
create index decision_by_use_case on release.decision (use_case, kind, decision_id);

alter table lineage.deployment add foreign key (decision_id) references release.decision;

-- Persons' answers. "refused" is an approval that the rules did not accept, kept with its reason.
create table release.approval (
    approval_id bigint generated always as identity primary key,
    decision_id bigint not null references release.decision,
    answer text not null check (answer in ('approve', 'reject', 'timeout', 'refused', 'superseded')),
    person text, -- null for a timeout or a supersession
    reason text not null check (reason <> ''),
    login text not null default session_user,
    answered_at timestamptz not null default clock_timestamp(),
    check ((person is null) = (answer in ('timeout', 'superseded')))
);
create unique index one_final_answer on release.approval (decision_id) where answer in ('approve', 'reject', 'timeout', 'superseded');

create table release.waiver (
    waiver_id bigint generated always as identity primary key,
    decision_id bigint not null references release.decision,
    check_name text not null,
    person text not null,
    reason text not null,
    expires_at timestamptz not null,
    granted_at timestamptz not null default clock_timestamp()
);

-- refusal: why this person cannot let this decision through; null where he can. Fails closed: an unknown name asks for
-- nothing and approves nothing.
create function release.refusal(p_decision bigint, p_person text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_decision release.decision;
    v_person release.person;
    v_requester text;
begin
    select * into v_decision from release.decision d where d.decision_id = p_decision;
    select * into v_person from release.person p where p.name = p_person;
    v_requester := release.person_of(v_decision.requested_by);
    if v_person.name is null then
        return format('%s is no person who is known here', p_person);
    elsif v_person.ended_at is not null or not v_person.approver then
        return format('%s may not approve a release', p_person);
    elsif v_requester = v_person.name then
        return format('%s asked for this run and cannot approve it', p_person);
    elsif v_requester is null and not release.impersonal(v_decision.requested_by) then
        return format('nobody can be told apart from %s, who asked for this run and is not known here', v_decision.requested_by);
    elsif v_decision.outcome = 'block' then
        return 'the gate blocked this candidate';
    end if;
    return null;
end
$$;

-- eligible: who may let a decision through.
create function release.eligible(p_decision bigint) returns table (name text, airflow_id text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select p.name, p.airflow_id from release.person p where release.refusal(p_decision, p.name) is null order by p.name
$$;

-- Nobody approves what he asked for himself, and nobody who is not known, whichever code path writes the row.
create function release.refuse_own_approval() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_refusal text := release.refusal(new.decision_id, new.person);
begin
    if new.answer = 'approve' and v_refusal is not null then
        raise exception '%', v_refusal using errcode = 'NS020';
    end if;
    return new;
end
$$;
create trigger refuse_own_approval before insert on release.approval
for each row execute function release.refuse_own_approval();

-- asks_a_person: whether what a policy governs needs a person's approval. Follows from the risk tier; a policy that does not
-- say its tier, or says of a high one that it asks nobody, asks.
create function release.asks_a_person(p_policy bigint) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce((select (p.content ->> 'asks_a_person')::boolean or p.content ->> 'risk_tier' = 'high'
                            or p.content ->> 'risk_tier' is null
                     from release.policy p where p.policy_id = p_policy), true)
$$;

-- signs_data: whether persons sign what is new in the data that a model is trained on. As asks_a_person.
create function release.signs_data(p_policy bigint) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce((select coalesce((p.content ->> 'signs_data')::boolean, false) or p.content ->> 'risk_tier' = 'high'
                            or p.content ->> 'risk_tier' is null
                     from release.policy p where p.policy_id = p_policy), true)
$$;

-- in_force: the policy that was sealed last at a moment; null where none was.
create function release.in_force(p_use_case text, p_at timestamptz) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select s.policy_id from release.sealing s
    where s.use_case = p_use_case and s.sealed_at <= p_at order by s.sealed_at desc, s.sealing_id desc limit 1
$$;

-- trained_at: when the training of these weights first began: the first run that gave them, or an adapter that they are of.
create function release.trained_at(p_use_case text, p_digest text) returns timestamptz
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
create function release.rollback_asks(p_use_case text, p_model bigint, p_index bigint) returns boolean
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
create function release.unproven(p_decision release.decision) returns text
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

-- check_decision: what a decision may say, and whose login may say it, whichever code path writes the row. A model is approved
-- under the policy that is in force and was in force when its training began, in the name of whoever asked for the gate's run,
-- on evaluations by `evaluator`, with every check passed; an index keeps the model of what it replaces and has passed its
-- gates; a rollback goes to a pair that was live before. What only blocks may say anything.
create function release.check_decision() returns trigger
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

create function release.check_model(new release.decision) returns void
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
    elsif release.signs_data(new.policy_id) and catalog.trained_unsigned(new.model_version_id) > 0 then
        raise exception 'the model was trained on a dataset version that nobody has signed: the decision can only block' using errcode = 'NS024';
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

create function release.check_index(new release.decision) returns void
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

create function release.check_rollback(new release.decision) returns void
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
    elsif catalog.trained_on_erased(new.model_version_id) > 0 then
        raise exception 'this model was trained on rows that were erased since: nobody goes back to it' using errcode = 'NS042';
    elsif not new.needs_person and release.rollback_asks(new.use_case, new.model_version_id, new.index_version_id) then
        raise exception 'a second person has to agree to this rollback' using errcode = 'NS024';
    elsif not exists (select from release.person p where p.name = release.person_of(new.requested_by) and p.ended_at is null) then
        raise exception '% is no person who may roll back', new.requested_by using errcode = 'NS025';
    elsif coalesce(btrim(new.why), '') = '' then
        raise exception 'a rollback has a reason' using errcode = 'NS024';
    end if;
end
$$;
create trigger check_decision before insert on release.decision
for each row execute function release.check_decision();

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

-- seal_policy: the same thresholds are the same policy, and the first time they were sealed counts; every sealing is
-- written down.
create function release.seal_policy(p_use_case text, p_digest text, p_content jsonb, p_by text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_policy bigint;
begin
    insert into release.policy (use_case, digest, content, sealed_by) values (p_use_case, p_digest, p_content, p_by)
    on conflict (use_case, digest) do nothing;
    select p.policy_id into v_policy from release.policy p where p.use_case = p_use_case and p.digest = p_digest;
    insert into release.sealing (policy_id, use_case, sealed_by) values (v_policy, p_use_case, p_by);
    return v_policy;
end
$$;

-- answer: a person's answer to a decision, or that none came in time. Who answers is whose login this session is; the
-- worker that hands on Airflow's logins alone names somebody (approver). An approval that the rules do not accept is
-- written down as refused, and the decision waits on. A rejection always counts, whoever it is from and without a reason:
-- who got here has proven a login, and nothing goes live by a no. A second final answer is an error. Returns the answer
-- as it counts.
create function release.answer(p_decision bigint, p_answer text, p_person text, p_reason text, p_use_case text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_decision release.decision;
    v_final text;
    v_answer text := p_answer;
    v_reason text := coalesce(nullif(btrim(p_reason), ''), 'no reason given');
    v_person text := release.whoami();
begin
    if p_answer is null or p_answer not in ('approve', 'reject', 'timeout') then
        raise exception 'an answer is approve, reject or timeout, not %', p_answer using errcode = 'NS021';
    end if;
    select * into v_decision from release.decision d where d.decision_id = p_decision for update;
    if v_decision.decision_id is null or v_decision.use_case <> p_use_case then
        raise exception 'there is no decision %', concat_ws(' of ', p_decision, p_use_case) using errcode = 'NS021';
    end if;
    if session_user = 'approver' then
        v_person := coalesce(release.person_of(p_person), 'unknown:' || left(coalesce(p_person, ''), 200)); -- no name has a colon
    elsif p_answer = 'timeout' or (p_person is not null and release.person_of(p_person) is distinct from v_person) then
        raise exception 'the login % answers in its own name alone', session_user using errcode = 'NS025';
    end if;
    v_person := coalesce(v_person, 'login:' || session_user);
    select a.answer into v_final from release.approval a where a.decision_id = p_decision and a.answer <> 'refused';
    if v_final is not null then
        raise exception 'decision % has been answered: %', p_decision, v_final using errcode = 'NS022';
    end if;
    if exists (select from lineage.deployment d where d.decision_id = p_decision) then
        raise exception 'decision % has been carried out', p_decision using errcode = 'NS022';
    end if;
    if p_answer = 'approve' and release.refusal(p_decision, v_person) is not null then
        v_answer := 'refused';
        v_reason := release.refusal(p_decision, v_person);
    end if;
    insert into release.approval (decision_id, answer, person, reason)
    values (p_decision, v_answer, case when p_answer <> 'timeout' then v_person end, v_reason);
    return v_answer;
end
$$;

-- supersede: a decision that lets a candidate through ends the older ones of its use case that still wait. Returns those.
create function release.supersede(p_decision bigint) returns setof bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_decision release.decision;
begin
    select * into v_decision from release.decision d where d.decision_id = p_decision;
    if v_decision.decision_id is null then
        raise exception 'there is no decision %', p_decision using errcode = 'NS021';
    end if;
    if v_decision.outcome = 'block' then
        return;
    end if;
    -- Locked first, as release.answer locks them, so that an answer and a supersession cannot both be written.
    perform from release.decision d
    where d.use_case = v_decision.use_case and d.kind = v_decision.kind and d.decision_id < p_decision and d.outcome <> 'block'
    order by d.decision_id for update;
    return query
    with older as (
        insert into release.approval (decision_id, answer, reason)
        select d.decision_id, 'superseded', format('decision %s is about a newer candidate', p_decision)
        from release.decision d
        where d.use_case = v_decision.use_case and d.kind = v_decision.kind and d.decision_id < p_decision and d.outcome <> 'block'
          and not exists (select from release.approval a where a.decision_id = d.decision_id and a.answer <> 'refused')
          and not exists (select from lineage.deployment w where w.decision_id = d.decision_id)
        returning decision_id
    )
    select o.decision_id from older o order by o.decision_id;
end
$$;

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
    -- An index that swaps under the live model keeps it, whatever it was trained on: until another is released, it answers.
    if v_decision.kind <> 'index' and catalog.trained_on_erased(v_decision.model_version_id) > 0 then
        raise exception 'the model of decision % was trained on rows that were erased since: train it again', p_decision
            using errcode = 'NS042';
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

grant execute on function release.supersede to gatekeeper, approver;
grant execute on function release.decide_model to gatekeeper;
grant execute on function release.decide_index to pipeline;
grant execute on function release.decide_rollback to approver;
grant select on release.sealing to reader;
