-- Persons: who may answer for a release, under one name each. A database that has rows already knows nobody: approvals are
-- refused until `nightshift person add` says who is who.
do $$
begin
    if not exists (select from pg_roles where rolname = 'approvers') then
        create role approvers nologin nosuperuser nocreatedb nocreaterole nobypassrls;
    end if;
    execute format('grant connect on database %I to approvers', current_database());
end
$$;

set local role nightshift_owner;

-- Persons: who may answer for a release. One person has one identity, under whatever name he comes: Airflow's, a database
-- login's, the operating system's. Written by the superuser alone (`nightshift person`): a worker's login that could add
-- a person could be the second pair of eyes to its own work.

-- A name is plain ASCII, so that no two names look alike but for l and 1, o and 0; `schedule` is the clock, which is nobody.
create table release.person (
    name text primary key check (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$' and name <> 'schedule'),
    airflow_id text unique, -- as Airflow's login names him; null: he has none
    login text unique, -- his own database login, a member of `approvers`; null: he has none
    approver boolean not null, -- may let a release through
    added_by text not null default session_user,
    added_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz -- answers count no more; what he answered stands
);

-- Every name that a person is recorded under: his own, Airflow's, and others such as `os:maria`.
create table release.person_alias (
    alias text primary key check (alias ~ '^[!-~]{1,128}$' and lower(alias) <> 'schedule'),
    person text not null references release.person
);

-- guard_alias: an alias is one person's, also where another writes it in other case.
create function release.guard_alias() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_other text;
begin
    lock table release.person_alias in share row exclusive mode;
    select a.person into v_other from release.person_alias a
    where lower(a.alias) = lower(new.alias) and a.person <> new.person limit 1;
    if v_other is not null then
        raise exception '% is %, not %', new.alias, v_other, new.person using errcode = 'NS025';
    end if;
    return new;
end
$$;
create trigger guard_alias before insert or update on release.person_alias
for each row execute function release.guard_alias();

-- guard_login: a person's login is a login of his own: none that a worker has, and no superuser.
create function release.guard_login() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if new.login is not null and not exists (
        select from pg_roles r
        join pg_auth_members m on m.member = r.oid
        join pg_roles g on g.oid = m.roleid and g.rolname = 'approvers'
        where r.rolname = new.login and r.rolcanlogin and not r.rolsuper
          and not pg_has_role(r.oid, 'nightshift_owner', 'member')
          and r.rolname not in ('pipeline', 'trainer', 'evaluator', 'retriever', 'reader', 'auditor', 'approver', 'gatekeeper')
    ) then
        raise exception '% is no login of a person: a member of `approvers` that no worker has', new.login using errcode = 'NS025';
    end if;
    return new;
end
$$;
create trigger guard_login before insert or update on release.person
for each row execute function release.guard_login();

-- name_person: a person's own name and Airflow's for him are aliases, in the namespace of all the others.
create function release.name_person() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into release.person_alias as a (alias, person)
    select n.alias, new.name from unnest(array[new.name, new.airflow_id]) n (alias)
    where n.alias is not null
      and not exists (select from release.person_alias e where e.alias = n.alias and e.person = new.name)
    group by n.alias;
    return null;
end
$$;
create trigger name_person after insert or update on release.person
for each row execute function release.name_person();

-- add_person: a new person, or what is new about one who is known. An id or a login is never exchanged for another.
create function release.add_person(p_name text, p_airflow_id text, p_login text, p_approver boolean, p_aliases text[]) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_known release.person;
begin
    select * into v_known from release.person p where p.name = p_name for update;
    if v_known.name is null then
        insert into release.person (name, airflow_id, login, approver) values (p_name, p_airflow_id, p_login, p_approver);
    elsif v_known.airflow_id <> p_airflow_id or v_known.login <> p_login then
        raise exception '% has another id or login', p_name using errcode = 'NS025';
    else
        update release.person p
        set airflow_id = coalesce(p_airflow_id, p.airflow_id), login = coalesce(p_login, p.login), approver = p_approver, ended_at = null
        where p.name = p_name;
    end if;
    insert into release.person_alias (alias, person)
    select distinct n.alias, p_name from unnest(p_aliases) n (alias)
    where not exists (select from release.person_alias e where e.alias = n.alias and e.person = p_name);
    return p_name;
exception when unique_violation or check_violation then
    raise exception '%', sqlerrm using errcode = 'NS025';
end
$$;

-- end_person: his answers count no more.
create function release.end_person(p_name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update release.person p set ended_at = clock_timestamp() where p.name = p_name and p.ended_at is null;
    if not found then
        raise exception 'no person is called %', p_name using errcode = 'NS021';
    end if;
end
$$;

-- person_of: the one name of whoever is recorded under this one; null where that is no person who is known.
create function release.person_of(p_text text) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select a.person from release.person_alias a where a.alias = p_text
$$;

-- whoami: the person whose own login this session is; null for a worker's.
create function release.whoami() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select p.name from release.person p where p.login = session_user and p.ended_at is null
$$;

-- impersonal: a name that no person can have: the clock, or one with a colon in it that is nobody's alias (`os:root`).
create function release.impersonal(p_text text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select release.person_of(p_text) is null and (p_text = 'schedule' or p_text ~ '^[a-z]+:[!-~]+$')
$$;

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
create or replace function release.refuse_own_approval() returns trigger
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

drop function release.answer(bigint, text, text, text);

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

create trigger audited after insert or update or delete on release.person for each row execute function
    audit.record('name', 'airflow_id', 'login', 'approver', 'ended_at');
create trigger audited after insert or update or delete on release.person_alias for each row execute function
    audit.record('alias', 'person');

-- Which version of an artifact is the newest: the one that a run registered last, not the one that was first made last.
alter table lineage.run_output add column registered bigint generated always as identity;

grant execute on function release.answer to approver, approvers;
grant usage on schema release to approvers;
grant select on release.waiting, release.decision, release.approval to approvers;
grant execute on function release.person_of, release.impersonal, release.eligible, release.whoami
    to pipeline, evaluator, approver, reader, auditor, approvers;
grant select on release.person, release.person_alias to reader, pipeline, auditor, approver;

reset role;
