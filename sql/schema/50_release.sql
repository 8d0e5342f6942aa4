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
    reason text not null,
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

-- Nobody approves what he asked for himself, whichever code path writes the row.
create function release.refuse_own_approval() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if new.answer = 'approve'
       and new.person = (select d.requested_by from release.decision d where d.decision_id = new.decision_id) then
        raise exception '% asked for decision % and cannot approve it', new.person, new.decision_id using errcode = 'NS020';
    end if;
    return new;
end
$$;
create trigger refuse_own_approval before insert on release.approval
for each row execute function release.refuse_own_approval();

-- seal_policy: the same thresholds are the same seal; the first time they were sealed counts.
create function release.seal_policy(p_use_case text, p_digest text, p_content jsonb, p_by text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_policy bigint;
begin
    insert into release.policy (use_case, digest, content, sealed_by) values (p_use_case, p_digest, p_content, p_by)
    on conflict (use_case, digest) do nothing;
    select p.policy_id into v_policy from release.policy p where p.use_case = p_use_case and p.digest = p_digest;
    return v_policy;
end
$$;

-- answer: a person's answer to a decision. Approving one's own run is written down as refused; a second final answer
-- is an error. Returns the answer as it counts.
create function release.answer(p_decision bigint, p_answer text, p_person text, p_reason text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_decision release.decision;
    v_answer text := p_answer;
    v_reason text := p_reason;
begin
    select * into v_decision from release.decision d where d.decision_id = p_decision for update;
    if v_decision.decision_id is null then
        raise exception 'there is no decision %', p_decision using errcode = 'NS021';
    end if;
    if exists (select from release.approval a where a.decision_id = p_decision and a.answer <> 'refused') then
        raise exception 'decision % has been answered', p_decision using errcode = 'NS022';
    end if;
    if p_answer = 'approve' and p_person = v_decision.requested_by then
        v_answer := 'refused';
        v_reason := format('%s asked for this run and cannot approve it', p_person);
    elsif p_answer = 'approve' and v_decision.outcome = 'block' then
        v_answer := 'refused';
        v_reason := 'the gate blocked this candidate';
    end if;
    insert into release.approval (decision_id, answer, person, reason) values (p_decision, v_answer, p_person, v_reason);
    return v_answer;
end
$$;

-- promote: promotion, rollback and index swap alike. Compare-and-set: it ends the deployment that the decision was
-- made against, and refuses when another one is live by now. Null expected: nothing may be live.
create function lineage.promote(p_use_case text, p_alias text, p_model bigint, p_index bigint, p_expected bigint,
                                p_decision bigint, p_by text, p_why text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_decision release.decision;
    v_live bigint;
    v_deployment bigint;
    v_now timestamptz;
begin
    perform pg_advisory_xact_lock(hashtextextended('lineage.promote/' || p_use_case || '/' || p_alias, 0));
    select * into v_decision from release.decision d where d.decision_id = p_decision;
    if v_decision.decision_id is null or v_decision.use_case <> p_use_case then
        raise exception 'decision % is none of use case %', p_decision, p_use_case using errcode = 'NS021';
    end if;
    if v_decision.outcome = 'block' then
        raise exception 'decision % blocked what it looked at', p_decision using errcode = 'NS023';
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
    update lineage.deployment d set valid_to = v_now where d.deployment_id = v_live;
    insert into lineage.deployment (use_case, alias, model_version_id, index_version_id, decision_id, replaces, promoted_by, why, valid_from)
    values (p_use_case, p_alias, p_model, p_index, p_decision, p_expected, p_by, p_why, v_now)
    returning deployment_id into v_deployment;
    return v_deployment;
end
$$;
