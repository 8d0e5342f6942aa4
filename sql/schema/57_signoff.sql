-- Signing data: what is new in a version of the examples is trained on once persons have signed it: a source (or a source that is
-- described anew) by the data owner, rows about persons by the privacy reviewer. What one version was signed for, no later
-- version asks again. What was refused for a version is refused for it for good; a later version asks anew.

create table catalog.signoff (
    signoff_id bigint generated always as identity primary key,
    dataset_id bigint not null,
    version int not null,
    role text not null check (role in ('data_owner', 'privacy_reviewer')),
    answer text not null check (answer in ('approve', 'reject', 'refused')), -- refused: an approval that the rules do not accept
    person text not null,
    reason text not null,
    login text not null default session_user,
    answered_at timestamptz not null default clock_timestamp(),
    foreign key (dataset_id, version) references catalog.dataset_version
);
create unique index one_signoff on catalog.signoff (dataset_id, version, role) where answer <> 'refused';

-- personal_rows: the rows of a version that are about a person, or in which the checks found personal data.
create function catalog.personal_rows(p_dataset bigint, p_version int) returns table (digest text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select m.example_digest
    from catalog.dataset d
    cross join lateral catalog.example_members(d.dataset_id, p_version) m
    where d.dataset_id = p_dataset
      and (exists (select from catalog.example e where e.use_case = d.use_case and e.digest = m.example_digest and e.subject is not null)
           or exists (select from catalog.locked_example e where e.use_case = d.use_case and e.digest = m.example_digest and e.subject is not null)
           or exists (select from catalog.finding f where f.use_case = d.use_case and f.digest = m.example_digest and f.rule = 'personal_data'))
$$;

-- to_sign: what of a version each role has not signed, in this version or another: sources by name, rows by digest. A version that
-- says nothing of its sources cannot be signed.
create function catalog.to_sign(p_dataset bigint, p_version int) returns table (role text, items text[])
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select 'data_owner', array_agg(s.source order by s.source)
    from catalog.version_source s
    where s.dataset_id = p_dataset and s.version = p_version and not exists (
        select from catalog.signoff a
        join catalog.version_source o on o.dataset_id = a.dataset_id and o.version = a.version and o.source = s.source and o.digest = s.digest
        where a.dataset_id = p_dataset and a.role = 'data_owner' and a.answer = 'approve')
    having count(*) > 0
    union all
    select 'data_owner', array['no source is described']
    where not exists (select from catalog.version_source s where s.dataset_id = p_dataset and s.version = p_version)
    union all
    select 'privacy_reviewer', array_agg(r.digest order by r.digest)
    from catalog.personal_rows(p_dataset, p_version) r
    where not exists (
        select from catalog.signoff a
        join catalog.example_member m on m.dataset_id = a.dataset_id and m.example_digest = r.digest
                                     and m.added_in <= a.version and (m.removed_in is null or m.removed_in > a.version)
        where a.dataset_id = p_dataset and a.role = 'privacy_reviewer' and a.answer = 'approve')
    having count(*) > 0
$$;

-- signoff_state: whether a version of the examples is signed, waits or was rejected.
create function catalog.signoff_state(p_dataset bigint, p_version int) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select case
        when exists (select from catalog.signoff a where a.dataset_id = p_dataset and a.version = p_version and a.answer = 'reject') then 'rejected'
        when exists (select from catalog.to_sign(p_dataset, p_version)) then 'waiting'
        else 'signed' end
$$;

-- trained_unsigned: how many of the datasets that a model, or what it was trained from, was trained on nobody has signed. The
-- same content may have been committed twice: signed as one version, it is signed.
create function catalog.trained_unsigned(p_model bigint) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select count(*) from (
        select i.version_id
        from lineage.ancestry(p_model) a
        join lineage.run_output o on o.version_id = a.version_id
        join lineage.run t on t.run_id = o.run_id and t.state = 'succeeded'
        join lineage.job j on j.job_id = t.job_id and lineage.trains(j.name)
        join lineage.run_input i on i.run_id = t.run_id and i.role = 'dataset'
        join catalog.dataset_version v on v.artifact_version_id = i.version_id
        join catalog.dataset d on d.dataset_id = v.dataset_id and d.kind = 'examples'
        group by i.version_id
        having not bool_or(catalog.signoff_state(v.dataset_id, v.version) = 'signed')) unsigned
$$;

-- signoff_refusal: why this person cannot sign this version in this role; null where he can.
create function catalog.signoff_refusal(p_dataset bigint, p_version int, p_role text, p_person text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_person release.person;
    v_asked text;
    v_requester text;
begin
    select * into v_person from release.person p where p.name = p_person and p.ended_at is null;
    select coalesce(r.requested_by, 'unknown') into v_asked
    from catalog.dataset_version v left join lineage.run r using (run_id)
    where v.dataset_id = p_dataset and v.version = p_version;
    v_requester := release.person_of(v_asked);
    if v_person.name is null then
        return format('%s is no person who is known here', p_person);
    elsif not (case p_role when 'data_owner' then v_person.data_owner when 'privacy_reviewer' then v_person.privacy_reviewer else false end) then
        return format('%s is no %s', p_person, replace(p_role, '_', ' '));
    elsif v_requester = v_person.name then
        return format('%s committed this version and cannot sign it', p_person);
    elsif v_requester is null and not release.impersonal(v_asked) then
        return format('nobody can be told apart from %s, who committed this version and is not known here', v_asked);
    end if;
    return null;
end
$$;

-- signoff_eligible: who may sign a version in a role.
create function catalog.signoff_eligible(p_dataset bigint, p_version int, p_role text) returns table (name text, airflow_id text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select p.name, p.airflow_id from release.person p
    where catalog.signoff_refusal(p_dataset, p_version, p_role, p.name) is null order by p.name
$$;

-- answer_signoff: a person's answer, by the rules of release.answer: who answers is whose login this session is, and the worker
-- that hands on Airflow's logins alone names somebody. Returns the answer as it counts.
create function catalog.answer_signoff(p_use_case text, p_version int, p_role text, p_answer text, p_person text, p_reason text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_dataset bigint;
    v_answer text := p_answer;
    v_reason text := coalesce(nullif(btrim(p_reason), ''), 'no reason given');
    v_person text := release.whoami();
    v_final text;
begin
    if p_answer is null or p_answer not in ('approve', 'reject') then
        raise exception 'an answer is approve or reject, not %', p_answer using errcode = 'NS021';
    elsif p_role is null or p_role not in ('data_owner', 'privacy_reviewer') then
        raise exception 'data_owner and privacy_reviewer sign, not %', p_role using errcode = 'NS021';
    end if;
    select d.dataset_id into v_dataset from catalog.dataset d
    join catalog.dataset_version v using (dataset_id)
    where d.use_case = p_use_case and d.kind = 'examples' and v.version = p_version;
    if v_dataset is null then
        raise exception 'the examples of % have no version %', p_use_case, p_version using errcode = 'NS021';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('signoff/' || p_use_case, 0));
    if session_user = 'approver' then
        v_person := coalesce(release.person_of(p_person), 'unknown:' || left(coalesce(p_person, ''), 200));
    elsif p_person is not null and release.person_of(p_person) is distinct from v_person then
        raise exception 'the login % answers in its own name alone', session_user using errcode = 'NS025';
    end if;
    v_person := coalesce(v_person, 'login:' || session_user);
    select 'it was answered, ' || a.answer into v_final from catalog.signoff a
    where a.dataset_id = v_dataset and a.version = p_version and a.role = p_role and a.answer <> 'refused';
    if not exists (select from catalog.version_source s where s.dataset_id = v_dataset and s.version = p_version) then
        raise exception 'version % does not say what it was taken from: the next commit does', p_version using errcode = 'NS022';
    end if;
    if v_final is null and not exists (select from catalog.to_sign(v_dataset, p_version) t where t.role = p_role) then
        v_final := 'nothing in it is new';
    end if;
    if v_final is not null then
        raise exception 'version % needs no %: %', p_version, replace(p_role, '_', ' '), v_final using errcode = 'NS022';
    end if;
    -- Who may not sign may not reject either: a rejection keeps a version from training for good.
    if catalog.signoff_refusal(v_dataset, p_version, p_role, v_person) is not null then
        v_answer := 'refused';
        v_reason := catalog.signoff_refusal(v_dataset, p_version, p_role, v_person);
    end if;
    insert into catalog.signoff (dataset_id, version, role, answer, person, reason)
    values (v_dataset, p_version, p_role, v_answer, v_person, v_reason);
    return v_answer;
end
$$;

-- signoffs: what persons are asked about each version of the examples, and what they answered. No row is shown: names of sources, and
-- how many rows.
create view catalog.signoffs as
select s.use_case, s.dataset_id, v.version, v.digest, r.role,
       coalesce(a.answer, case when t.role is null then 'not asked' else 'waiting' end) as answer,
       cardinality(t.items) as open_items,
       coalesce((select jsonb_agg(jsonb_build_object('source', o.source, 'rows', o.rows, 'uses', o.uses, 'description', o.description)
                                  order by o.source)
                 from catalog.version_source o
                 where r.role = 'data_owner' and o.dataset_id = v.dataset_id and o.version = v.version and o.source = any (t.items)), '[]')
           as described,
       a.person, a.reason, a.answered_at, catalog.signoff_state(v.dataset_id, v.version) as state, v.committed_at
from catalog.dataset_version v
join catalog.dataset s on s.dataset_id = v.dataset_id and s.kind = 'examples'
cross join (values ('data_owner'), ('privacy_reviewer')) r (role)
left join lateral catalog.to_sign(v.dataset_id, v.version) t on t.role = r.role
left join catalog.signoff a on a.dataset_id = v.dataset_id and a.version = v.version and a.role = r.role and a.answer <> 'refused';

-- version_sources: what each version was taken from, and what it may be used for.
create view catalog.version_sources as
select d.use_case, d.kind, s.version, s.source, s.uses, s.description, s.rows, s.digest
from catalog.version_source s join catalog.dataset d using (dataset_id);

-- signoff_answers: every answer, also what did not count.
create view catalog.signoff_answers as
select a.signoff_id, s.use_case, a.version, a.role, a.answer, a.person, a.reason, a.login, a.answered_at
from catalog.signoff a join catalog.dataset s using (dataset_id);
