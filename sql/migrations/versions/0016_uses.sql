-- What data may be used for, and who signs that it is trained on. Documents may be limited to purposes, which searches have from
-- now on; a dataset version knows its sources and the run that committed it; persons sign what is new in it.
set local role nightshift_owner;

alter table catalog.dataset_version add column run_id uuid references lineage.run; -- that committed it; null: from before this was kept
alter table catalog.document_version add column uses text[] not null default '{rag,train,evaluate,log}'
    check (uses <@ array['rag', 'train', 'evaluate', 'log']);
alter table rag.session add column purpose text not null default 'rag' check (purpose in ('rag', 'evaluate', 'train')); -- what its searches are for
alter table rag.acl_set add column uses text[] not null default '{rag,train,evaluate,log}';
alter table rag.acl_set drop constraint acl_set_use_case_tenant_classification_groups_key;
alter table rag.acl_set add unique (use_case, tenant, classification, groups, uses);
alter table rag.retrieval_audit add column purpose text; -- what the search was for; null: a refused one's, or from before searches had a purpose
alter type rag.caller add attribute purpose text;
alter table release.person add column data_owner boolean not null default false; -- may sign that a new source is trained on
alter table release.person add column privacy_reviewer boolean not null default false; -- may sign that personal data is

-- What a version was taken from: each source as its use case described it then. `source` is what rows and places call it.
create table catalog.version_source (
    dataset_id bigint not null,
    version int not null,
    source text not null,
    digest text not null, -- of the description, what it may be used for included
    uses text[] not null check (uses <@ array['rag', 'train', 'evaluate', 'log']),
    description jsonb not null, -- what it holds, licence, owner, rights, sensitivity
    rows bigint not null,
    primary key (dataset_id, version, source),
    foreign key (dataset_id, version) references catalog.dataset_version
);

-- What wrote the rows that no person wrote, test rows too. What is said anew of a row is a new row here: the newest counts.
create table catalog.generated_row (
    generated_row_id bigint generated always as identity primary key,
    use_case text not null,
    digest text not null,
    made_by text, -- the model or the program; null: it says by now that a person wrote it
    prompt_digest text,
    made_on date,
    checked_by text, -- the person who read it; null: nobody did
    recorded_at timestamptz not null default clock_timestamp()
);

create index generated_row_by_digest on catalog.generated_row (use_case, digest, generated_row_id);

drop policy chunk_visible on rag.chunk;
drop function rag.token_acl_ids();
drop function rag.acl_ids(text, text, text[], text);

create or replace function rag.caller_of(p_digest bytea) returns rag.caller
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select s.token_digest, s.use_case, coalesce(p.name, 'leak test'), coalesce(p.tenant, s.tenant),
           coalesce(p.groups, s.groups), coalesce(p.clearance, s.clearance), s.expires_at,
           s.purpose
    from rag.session s left join rag.principal p on p.principal_id = s.principal_id
    where s.token_digest = p_digest
$$;

-- acl_ids: what a tenant's caller with these groups and this clearance may read for a purpose. Public documents are readable by
-- the whole tenant; everything else needs a shared group and enough clearance. Another tenant's documents never match, nor do
-- documents that may not be used for the purpose.
create function rag.acl_ids(p_use_case text, p_tenant text, p_groups text[], p_clearance text, p_purpose text) returns int[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce(array_agg(a.acl_id order by a.acl_id), '{}') from rag.acl_set a
    where a.use_case = p_use_case and a.tenant = p_tenant and p_purpose = any (a.uses)
      and rag.rank(a.classification) <= rag.rank(p_clearance)
      and (a.classification = 'public' or a.groups && p_groups)
$$;

create function rag.token_acl_ids() returns int[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select rag.acl_ids(s.use_case, s.tenant, s.groups, s.clearance, s.purpose) from rag.caller_of(sha256(convert_to(current_setting('nightshift.token', true), 'UTF8'))) s
    where s.expires_at > clock_timestamp()
$$;

-- The second wall: whoever was granted the table by mistake sees what his token may see, and without one nothing.
create policy chunk_visible on rag.chunk for select using (
    tenant = (select rag.token_tenant()) and acl_id = any ((select rag.token_acl_ids())::int[])
    and status = 1 and expires_at > now()
);

drop function rag.open_session(text, text, interval);
drop function rag.open_session_as(text, text, text[], text);
drop function rag.issue(text, bigint, text, text[], text, interval);

-- issue: writes a session and returns its token. For the two functions below alone.
create function rag.issue(p_use_case text, p_principal bigint, p_tenant text, p_groups text[], p_clearance text, p_lifetime interval,
                          p_purpose text)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_token text := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
    v_now timestamptz := clock_timestamp();
begin
    if p_lifetime is null or not (p_lifetime > interval '0' and p_lifetime <= interval '1 hour') then
        raise exception 'a session lives for up to an hour, not %', coalesce(p_lifetime::text, 'null') using errcode = 'NS013';
    elsif p_purpose is null or p_purpose not in ('rag', 'evaluate', 'train') then
        raise exception 'a session is for rag, evaluate or train, not %', coalesce(p_purpose, 'null') using errcode = 'NS013';
    elsif session_user = 'evaluator' and p_purpose <> 'evaluate' then
        raise exception 'the login evaluator searches to evaluate, not for %', p_purpose using errcode = 'NS013';
    end if;
    insert into rag.session (token_digest, use_case, principal_id, tenant, groups, clearance, opened_at, expires_at, purpose)
    values (sha256(convert_to(v_token, 'UTF8')), p_use_case, p_principal, p_tenant, p_groups, p_clearance, v_now, v_now + p_lifetime,
            p_purpose);
    return v_token;
end
$$;

-- open_session: a token for a principal that the use case names, for searches with one purpose. The gateway's to call, not the
-- caller's.
create function rag.open_session(p_use_case text, p_principal text, p_lifetime interval default interval '10 minutes',
                                 p_purpose text default 'rag')
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_principal bigint;
begin
    select p.principal_id into v_principal from rag.principal p where p.use_case = p_use_case and p.name = p_principal;
    if not found then
        raise exception 'use case % has no principal %', p_use_case, p_principal using errcode = 'NS010';
    end if;
    return rag.issue(p_use_case, v_principal, null, null, null, p_lifetime, p_purpose);
end
$$;

-- open_session_as: a token for a caller that nobody named, for the leak test alone. Its searches are in the audit under
-- the name "leak test".
create function rag.open_session_as(p_use_case text, p_tenant text, p_groups text[], p_clearance text, p_purpose text default 'rag')
returns text
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select rag.issue(p_use_case, null, p_tenant, p_groups, p_clearance, interval '10 minutes', p_purpose)
$$;

-- run_search: finds the k nearest chunks of one generation for a token, by meaning and (where the generation has them) by
-- words, and writes them down, by ids. What is refused is
-- written down too and answered with nothing: an exception would roll its own audit row back. For the two functions below.
-- It names the tenant's own partition: a session that holds a lock on rag.chunk since before a swap would not see there
-- the partition that the new deployment names, and find nothing.
create or replace function rag.run_search(p_token text, p_generation int, p_embedding halfvec, p_text text, p_k int, p_deployment bigint)
returns table (audit_id bigint, route text, reason text, chunk_ids bigint[])
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_digest bytea := sha256(convert_to(p_token, 'UTF8'));
    v_caller rag.caller;
    v_generation rag.generation;
    v_part text;
    v_acl int[] := '{}';
    v_visible int := 0;
    v_route text := 'refused';
    v_reason text;
    v_depth int := p_k; -- of each order
    v_chunks bigint[] := '{}';
    v_audit bigint;
begin
    perform rag.require_read_committed();
    select * into v_caller from rag.caller_of(v_digest);
    v_reason := rag.refusal(v_caller, p_embedding, p_text, p_k);
    if v_reason is null then
        select * into v_generation from rag.generation g
        where g.generation_id = p_generation and g.use_case = v_caller.use_case and g.state in ('attached', 'live', 'retired');
        v_part := format('chunk_g%s_t%s', p_generation, array_position(v_generation.tenants, v_caller.tenant));
        v_acl := rag.acl_ids(v_caller.use_case, v_caller.tenant, v_caller.groups, v_caller.clearance, v_caller.purpose);
        v_route := 'empty';
        if v_generation.generation_id is null then
            v_reason := 'no such index generation';
        elsif v_caller.tenant = any (v_generation.tenants) then
            execute format('select count(*) from rag.%I c where c.acl_id = any ($1) and c.status = 1'
                           ' and c.expires_at > clock_timestamp()', v_part) into v_visible using v_acl;
        end if;
        if v_generation.text_search is not null and p_text <> '' then
            v_depth := greatest(p_k, 50);
        end if;
        if v_visible > 3000 and to_regclass(format('rag.%I', v_part || '_hnsw')) is not null then
            v_route := 'hnsw';
            v_chunks := rag.nearest_hnsw(v_part, v_acl, p_embedding, v_depth);
        end if;
        -- A graph that lost its way is no excuse for a short answer.
        if v_visible > 0 and (v_route = 'empty' or cardinality(v_chunks) < least(v_depth, v_visible)) then
            v_route := 'exact';
            v_chunks := rag.nearest_exact(v_part, v_acl, p_embedding, v_depth);
        end if;
        if v_visible > 0 and v_generation.text_search is not null and p_text <> '' then
            v_chunks := rag.fused(v_chunks,
                rag.nearest_words(v_part, v_acl, v_visible, v_generation.text_search, p_text, v_depth), p_k);
        end if;
    end if;
    insert into rag.retrieval_audit (use_case, principal, tenant, query_digest, deployment_id, generation_id, route, visible,
                                     acl_ids, chunk_ids, reason, token_digest, purpose)
    values (v_caller.use_case, v_caller.principal, v_caller.tenant, encode(sha256(convert_to(p_text, 'UTF8')), 'hex'),
            p_deployment, p_generation, v_route, v_visible, v_acl, v_chunks, v_reason, v_digest, v_caller.purpose)
    returning retrieval_audit.audit_id into v_audit;
    return query select v_audit, v_route, v_reason, v_chunks;
end
$$;

-- read_hits: the text of what a search found. It is handed out against an audit row that has been committed, to the login
-- and the session that searched, within a minute and once; and what the caller may read is looked at again, so that
-- nothing is read that was withdrawn, or that he lost the right to, in between. A reading that is rolled back may be done
-- again within the minute: the search is on record all the same.
create or replace function rag.read_hits(p_token text, p_audit bigint, p_embedding halfvec)
returns table (document_key text, document_version_id bigint, chunk_id bigint, score real, body text)
language plpgsql volatile security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    v_audit rag.retrieval_audit;
    v_caller rag.caller;
    v_tenants text[];
begin
    perform rag.require_read_committed();
    select * into v_audit from rag.retrieval_audit a where a.audit_id = p_audit for update;
    select * into v_caller from rag.caller_of(sha256(convert_to(p_token, 'UTF8'))) s where s.expires_at > clock_timestamp();
    if v_audit.audit_id is null or v_caller.use_case is null or v_audit.login <> session_user
       or v_audit.token_digest is distinct from v_caller.token_digest
       or pg_xact_status(v_audit.transaction) is distinct from 'committed' or v_audit.read_at is not null
       or v_audit.at < clock_timestamp() - interval '60 seconds' or v_audit.at > clock_timestamp() + interval '60 seconds' then
        raise exception 'the text of search % is not to be had: it is given once, within a minute, to the session that'
            ' searched, after the search was committed', p_audit using errcode = 'NS014';
    end if;
    update rag.retrieval_audit a set read_at = clock_timestamp() where a.audit_id = p_audit;
    select g.tenants into v_tenants from rag.generation g
    where g.generation_id = v_audit.generation_id and g.use_case = v_caller.use_case and g.state in ('attached', 'live', 'retired');
    if v_caller.tenant = any (v_tenants) then
        return query execute format(
            'select c.document_key, c.document_version_id, c.chunk_id, (-(c.embedding <#> $2))::real, c.body
             from unnest($1) with ordinality as hit (id, place) join rag.%I c on c.chunk_id = hit.id
             where c.acl_id = any ($3) and c.status = 1 and c.expires_at > clock_timestamp()
             order by hit.place', format('chunk_g%s_t%s', v_audit.generation_id, array_position(v_tenants, v_caller.tenant)))
            using v_audit.chunk_ids, p_embedding,
                  rag.acl_ids(v_caller.use_case, v_caller.tenant, v_caller.groups, v_caller.clearance, v_caller.purpose);
    end if;
end
$$;

drop function release.add_person(text, text, text, boolean, text[]);

-- add_person: a new person, or what is new about one who is known. An id or a login is never exchanged for another.
create function release.add_person(
    p_name text, p_airflow_id text, p_login text, p_approver boolean, p_data_owner boolean, p_privacy_reviewer boolean, p_aliases text[])
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_known release.person;
begin
    select * into v_known from release.person p where p.name = p_name for update;
    if v_known.name is null then
        insert into release.person (name, airflow_id, login, approver, data_owner, privacy_reviewer)
        values (p_name, p_airflow_id, p_login, p_approver, p_data_owner, p_privacy_reviewer);
    elsif v_known.airflow_id <> p_airflow_id or v_known.login <> p_login then
        raise exception '% has another id or login', p_name using errcode = 'NS025';
    else
        update release.person p
        set airflow_id = coalesce(p_airflow_id, p.airflow_id), login = coalesce(p_login, p.login), approver = p_approver,
            data_owner = p_data_owner, privacy_reviewer = p_privacy_reviewer, ended_at = null
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

-- signs_data: whether persons sign what is new in the data that a model is trained on. As asks_a_person.
create function release.signs_data(p_policy bigint) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce((select coalesce((p.content ->> 'signs_data')::boolean, false) or p.content ->> 'risk_tier' = 'high'
                            or p.content ->> 'risk_tier' is null
                     from release.policy p where p.policy_id = p_policy), true)
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

-- keep_to_uses: a version holds no row that its source may not be used for. Looked at when the transaction ends, once all of a
-- version is written.
create function catalog.keep_to_uses() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (
        select from catalog.dataset d
        cross join lateral catalog.example_members(d.dataset_id, new.version) m
        join (select e.use_case, e.digest, e.source from catalog.example e
              union all
              select l.use_case, l.digest, l.source from catalog.locked_example l) r
          on r.use_case = d.use_case and r.digest = m.example_digest
        where d.dataset_id = new.dataset_id and d.kind = 'examples' and r.source = new.source
          and not case m.split when 'test' then 'evaluate' else 'train' end = any (new.uses)
    ) then
        raise exception 'a version would hold rows of % for what it may not be used for: it may be used to %', new.source, new.uses
            using errcode = 'NS043';
    end if;
    return null;
end
$$;
create constraint trigger kept_to_uses after insert on catalog.version_source
deferrable initially deferred for each row execute function catalog.keep_to_uses();

-- name_own_commit: a version that names the run which committed it names a commit of its use case by this login that is under way, or
-- ends in this transaction: who asked for it may not sign it.
create function catalog.name_own_commit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from lineage.run r
                   join lineage.job j on j.job_id = r.job_id and j.name = 'data.commit'
                   join catalog.dataset d on d.dataset_id = new.dataset_id and d.use_case = j.use_case
                   join lineage.attempt a on a.run_id = r.run_id and a.login = session_user
                                         and (a.state = 'running' or a.ended_at >= transaction_timestamp())
                   where r.run_id = new.run_id) then
        raise exception 'run % is no commit of this use case by the login % that is under way', new.run_id, session_user using errcode = 'NS030';
    end if;
    return new;
end
$$;
create trigger names_own_commit before insert or update of run_id on catalog.dataset_version
for each row when (new.run_id is not null) execute function catalog.name_own_commit();

-- keep_what_may_be_kept: the text of an answer is kept where each document that it was given from may be logged; its digest and
-- its scores always are.
create function eval.keep_what_may_be_kept() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (
        select from eval.evaluation e
        join catalog.document d on d.use_case = e.use_case and d.document_key = any (new.documents)
        cross join lateral (select v.uses from catalog.document_version v where v.document_id = d.document_id
                            order by v.document_version_id desc limit 1) v
        where e.evaluation_id = new.evaluation_id and not 'log' = any (v.uses)
    ) then
        new.answer := null;
    end if;
    return new;
end
$$;
create trigger kept_to_uses before insert on eval.result
for each row execute function eval.keep_what_may_be_kept();

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
        join lineage.job j on j.job_id = t.job_id and j.name in ('training.sft', 'training.dpo')
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

create table catalog.review (
    review_id bigint generated always as identity primary key,
    dataset_id bigint not null,
    version int not null,
    seed bigint not null,
    rows int not null check (rows >= 10),
    requested_by text not null,
    drawn_at timestamptz not null default clock_timestamp(),
    unique (dataset_id, version, seed, rows),
    foreign key (dataset_id, version) references catalog.dataset_version
);

create table catalog.review_row (
    review_id bigint not null references catalog.review,
    place int not null check (place > 0),
    digest text not null, -- of the example
    stratum text not null, -- its kind and its source
    swapped boolean not null, -- of a pair: whether the rejected answer is shown first
    primary key (review_id, place)
);

create table catalog.review_answer (
    review_answer_id bigint generated always as identity primary key,
    review_id bigint not null,
    place int not null,
    rater text not null,
    good boolean not null, -- of a pair: whether the rater, who does not know which was chosen, prefers the chosen answer
    preferred text check (preferred in ('a', 'b', 'neither')), -- of a pair: as it was shown
    reason text check (btrim(reason) <> ''), -- null once the row is erased
    login text not null default session_user,
    answered_at timestamptz not null default clock_timestamp(),
    unique (review_id, place, rater),
    foreign key (review_id, place) references catalog.review_row
);
alter table catalog.review_answer alter column reason set statistics 0;

-- draw_no_test: what is drawn is a member of the version, and never of its test split.
create function catalog.draw_no_test() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from catalog.review r
                   join catalog.example_member m on m.dataset_id = r.dataset_id and m.example_digest = new.digest and m.split <> 'test'
                                                and m.added_in <= r.version and (m.removed_in is null or m.removed_in > r.version)
                   where r.review_id = new.review_id) then
        raise exception 'row % is not to be read in a review: it is no member of the version, or of its test split', left(new.digest, 12)
            using errcode = 'NS044';
    end if;
    return new;
end
$$;
create trigger no_test_row before insert on catalog.review_row
for each row execute function catalog.draw_no_test();

-- reviews: how far each rater is with each sample, and how many of the rows that he read he calls good. A row that was erased since
-- is not waited for.
create view catalog.reviews as
select r.review_id, d.use_case, r.version, r.seed, r.rows, r.drawn_at, a.rater, count(*) as read, count(*) filter (where a.good) as good,
       not exists (
           select from catalog.review_row w
           join catalog.example e on e.use_case = d.use_case and e.digest = w.digest and e.content is not null
           where w.review_id = r.review_id and not exists (
               select from catalog.review_answer o where o.review_id = w.review_id and o.place = w.place and o.rater = a.rater)) as finished,
       max(a.answered_at) as last_read_at
from catalog.review r
join catalog.dataset d using (dataset_id)
join catalog.review_answer a using (review_id)
group by r.review_id, d.use_case, r.version, r.seed, r.rows, r.drawn_at, a.rater;

create table catalog.locked_reading (
    locked_reading_id bigint generated always as identity primary key,
    dataset_id bigint not null,
    version int not null,
    login text not null default session_user,
    announced_at timestamptz not null default clock_timestamp(),
    transaction xid8 not null default pg_current_xact_id(), -- rows are handed out once it has been committed
    read_at timestamptz,
    rows bigint,
    foreign key (dataset_id, version) references catalog.dataset_version
);

-- announce_locked_reading: says that the locked rows of a dataset version are about to be read. Returns the number to read them by. The
-- same content may have been committed twice: the newest version of it is the one that is read.
create function catalog.announce_locked_reading(p_artifact bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_reading bigint;
begin
    insert into catalog.locked_reading (dataset_id, version)
    select v.dataset_id, v.version
    from catalog.dataset_version v join catalog.dataset d on d.dataset_id = v.dataset_id and d.kind = 'examples'
    where v.artifact_version_id = p_artifact order by v.version desc limit 1
    returning locked_reading_id into v_reading;
    if v_reading is null then
        raise exception 'artifact version % is no version of examples', p_artifact using errcode = 'NS021';
    end if;
    return v_reading;
end
$$;

-- read_locked: the locked rows of an announced reading, erased ones left out: to the login that announced it, within a minute and once. A
-- reading that is rolled back may be done again within the minute: it is on record all the same.
create function catalog.read_locked(p_reading bigint) returns table (digest text, kind text, content jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
    v_reading catalog.locked_reading;
    v_rows bigint;
begin
    select * into v_reading from catalog.locked_reading r where r.locked_reading_id = p_reading for update;
    if v_reading.locked_reading_id is null or v_reading.login <> session_user or v_reading.read_at is not null
       or pg_xact_status(v_reading.transaction) is distinct from 'committed'
       or not v_reading.announced_at between clock_timestamp() - interval '60 seconds' and clock_timestamp() + interval '60 seconds' then
        raise exception 'the locked rows are not to be had by reading %: they are given once, within a minute, to the login that announced'
            ' it, after that was committed', p_reading using errcode = 'NS045';
    end if;
    return query
    select e.digest, e.kind, e.content
    from catalog.dataset d
    cross join lateral catalog.example_members(d.dataset_id, v_reading.version) m
    join catalog.locked_example e on e.use_case = d.use_case and e.digest = m.example_digest
    where d.dataset_id = v_reading.dataset_id and m.split = 'test' and e.content is not null
    order by e.digest;
    get diagnostics v_rows = row_count;
    update catalog.locked_reading r set read_at = clock_timestamp(), rows = v_rows
    where r.locked_reading_id = p_reading;
end
$$;

-- locked_readings: when which login read the locked test split of which version.
create view catalog.locked_readings as
select r.locked_reading_id, d.use_case, r.version, r.login, r.announced_at, r.read_at, r.rows
from catalog.locked_reading r join catalog.dataset d using (dataset_id);

-- erase: carries an erasure out: text and names go from every table that holds them, the digests stay. Once; asked again by the
-- same run it returns what went. The caller holds the locks of commits and builds, and writes the tombstones in this transaction.
create or replace function catalog.erase(p_run uuid, p_fence bigint, p_erasure bigint) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '60s' as $$
declare
    v_erasure catalog.erasure;
    v_generation int;
    v_keys text[];
    v_key text;
    v_gone record;
    v_chunks bigint := 0;
    v_embeddings bigint := 0;
    v_examples bigint;
    v_locked bigint;
    v_documents bigint;
    v_answers bigint;
    v_cases bigint;
    v_emptied bigint[];
    v_counts jsonb;
begin
    perform lineage.permitted('data.erase');
    perform lineage.hold_attempt(p_run, p_fence);
    select * into v_erasure from catalog.erasure e where e.erasure_id = p_erasure for update;
    if not exists (select from lineage.run r join lineage.job j using (job_id)
                   where r.run_id = p_run and j.name = 'data.erase' and j.use_case = v_erasure.use_case) then
        raise exception 'run % erases nothing of this use case', p_run using errcode = 'NS030';
    end if;
    if v_erasure.erased_at is not null then
        return v_erasure.counts;
    end if;
    if v_erasure.basis = 'retention' then
        if catalog.retained(v_erasure.use_case, v_erasure.reference) then
            raise exception 'this document has still to be kept' using errcode = 'NS041';
        end if;
    elsif not exists (select from catalog.erasure_answer a where a.erasure_id = p_erasure and a.answer = 'approve') then
        raise exception 'nobody has agreed to erasure %', p_erasure using errcode = 'NS040';
    end if;

    insert into catalog.erased_row (use_case, kind, digest, erasure_id, split, document_version_id)
    select v_erasure.use_case, a.kind, a.digest, p_erasure, a.split, a.document_version_id
    from catalog.rows_about(v_erasure.use_case, v_erasure.kind, v_erasure.reference) a
    on conflict do nothing;

    update catalog.example e set content = null, subject = null
    from catalog.erased_row r
    where r.erasure_id = p_erasure and r.kind = 'example' and e.use_case = r.use_case and e.digest = r.digest;
    get diagnostics v_examples = row_count;
    update catalog.locked_example e set content = null, subject = null
    from catalog.erased_row r
    where r.erasure_id = p_erasure and r.kind = 'example' and e.use_case = r.use_case and e.digest = r.digest;
    get diagnostics v_locked = row_count;
    update catalog.document_version v set body = null, title = '', source = null, subject = null
    from catalog.erased_row r
    where r.erasure_id = p_erasure and r.document_version_id = v.document_version_id;
    get diagnostics v_documents = row_count;

    v_keys := array(select distinct d.document_key from catalog.erased_row r
                    join catalog.document_version v using (document_version_id)
                    join catalog.document d using (document_id)
                    where r.erasure_id = p_erasure);
    if v_documents > 0 then
        -- What a build has staged would come in with it, and embeddings of chunks that stand nowhere are of nobody knows what.
        for v_generation in select g.generation_id from rag.generation g
                            where g.use_case = v_erasure.use_case and g.state = 'building' loop
            perform rag.drop_version(v_generation);
        end loop;
        foreach v_key in array v_keys loop
            select * into v_gone from rag.erase(v_erasure.use_case, v_key, 'it was erased');
            v_chunks := v_chunks + v_gone.chunks;
            v_embeddings := v_embeddings + v_gone.embeddings;
        end loop;
        v_embeddings := v_embeddings + rag.prune_cache(interval '0');
    end if;

    -- What a rater wrote of a row may quote it.
    update catalog.review_answer a set reason = null
    from catalog.review_row w, catalog.review v, catalog.dataset d, catalog.erased_row r
    where w.review_id = a.review_id and w.place = a.place and v.review_id = w.review_id and d.dataset_id = v.dataset_id
      and r.erasure_id = p_erasure and r.kind = 'example' and r.use_case = d.use_case and r.digest = w.digest;

    -- Cases of the locked test split hold no text of their own, so that an empty one says nothing of this erasure.
    with emptied as (
        update eval.suite_case c set question = null, expect = null
        from eval.suite s
        where s.suite_id = c.suite_id and s.use_case = v_erasure.use_case and (c.question is not null or c.expect is not null)
          and (exists (select from catalog.erased_row r where r.erasure_id = p_erasure and r.kind = 'example' and r.digest = c.case_key)
               or c.expect ->> 'source' = any (v_keys))
        returning c.case_id
    )
    select count(*), coalesce(array_agg(m.case_id), '{}') into v_cases, v_emptied from emptied m;
    -- What a model that learned from the rows has said may be what it learned.
    update eval.result r set answer = null
    from eval.evaluation e, eval.suite_case c
    where e.evaluation_id = r.evaluation_id and c.case_id = r.case_id and e.use_case = v_erasure.use_case and r.answer is not null
      and (r.documents && v_keys
           or c.case_id = any (v_emptied)
           or exists (select from catalog.erased_row x where x.erasure_id = p_erasure and x.kind = 'example' and x.digest = c.case_key)
           or e.model_version_id in (select m.model_version_id from (
                  select distinct o.model_version_id from eval.evaluation o where o.use_case = v_erasure.use_case) m
              where catalog.trained_on_erased(m.model_version_id) > 0));
    get diagnostics v_answers = row_count;

    v_counts := jsonb_build_object('examples', v_examples, 'locked_examples', v_locked, 'document_versions', v_documents,
        'chunks', v_chunks, 'embeddings', v_embeddings, 'cases', v_cases, 'answers', v_answers);
    update catalog.erasure e set reference = null, run_id = p_run, counts = v_counts, erased_at = clock_timestamp()
    where e.erasure_id = p_erasure;
    return v_counts;
end
$$;

-- rewrite_erased: writes the tables anew that text was erased from, so that no page keeps what was deleted. After the
-- transaction that erased. A table of chunks is locked while it is written: searches of its tenant wait. Returns the tables.
create or replace function catalog.rewrite_erased(p_erasure bigint) returns setof text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '60s' as $$
declare
    v_erasure catalog.erasure;
    v_documents boolean;
    v_table regclass;
begin
    perform lineage.permitted('data.certify');
    select * into v_erasure from catalog.erasure e where e.erasure_id = p_erasure;
    if v_erasure.erased_at is null then
        raise exception 'erasure % has not been carried out', p_erasure using errcode = 'NS040';
    end if;
    v_documents := exists (select from catalog.erased_row r where r.erasure_id = p_erasure and r.kind = 'document');
    for v_table in
        select t::regclass from unnest(array['catalog.example', 'catalog.locked_example', 'catalog.document_version', 'catalog.erasure',
                                             'eval.suite_case', 'eval.result', 'catalog.review_answer', 'rag.embedding_cache']) t
        where t not in ('catalog.document_version', 'rag.embedding_cache') or v_documents
        union all
        select leaf.relid from rag.generation g
        cross join lateral pg_partition_tree(to_regclass(format('rag.chunk_g%s', g.generation_id))) leaf
        where v_documents and g.use_case = v_erasure.use_case and g.state in ('attached', 'live', 'retired') and leaf.isleaf
    loop
        execute format('cluster %s using %s', v_table, (
            select quote_ident(c.relname) from pg_index i join pg_class c on c.oid = i.indexrelid
            where i.indrelid = v_table and i.indisprimary));
        return next v_table::text;
    end loop;
end
$$;

-- served_documents: what the live index holds, under the rights that retrieval enforces: those of the chunks.
create or replace view rag.served_documents as
select l.use_case, l.deployment_id, g.generation_id, k.document_key, k.document_version_id, k.tenant, s.classification,
       s.groups, count(*) as chunks, s.uses
from lineage.live l
join rag.generation g on g.artifact_version_id = l.index_version_id and g.use_case = l.use_case and g.state = 'live'
join rag.chunk k on k.generation_id = g.generation_id and k.status = 1 and k.expires_at > clock_timestamp()
join rag.acl_set s on s.acl_id = k.acl_id
group by l.use_case, l.deployment_id, g.generation_id, k.document_key, k.document_version_id, k.tenant, s.classification, s.groups, s.uses;

-- access: the documents that each principal can be answered from, by the rule of rag.acl_ids for the purpose rag.
create or replace view rag.access as
select p.use_case, p.name as principal, p.tenant, p.groups as principal_groups, p.clearance, d.deployment_id, d.generation_id,
       d.document_key, d.document_version_id, d.classification, d.groups, d.chunks
from rag.principal p
join rag.served_documents d on d.use_case = p.use_case and d.tenant = p.tenant
where 'rag' = any (d.uses) and rag.rank(d.classification) <= rag.rank(p.clearance)
  and (d.classification = 'public' or d.groups && p.groups);

-- generated_rows: what wrote the rows of the newest dataset versions that no person wrote, by digest.
create view catalog.generated_rows as
select d.use_case, m.example_digest as digest, m.split, g.made_by, g.prompt_digest, g.made_on, g.checked_by
from catalog.dataset d
join catalog.example_member m on m.dataset_id = d.dataset_id and m.removed_in is null
cross join lateral (
    select * from catalog.generated_row g
    where g.use_case = d.use_case and g.digest = m.example_digest order by g.generated_row_id desc limit 1) g
where d.kind = 'examples' and g.made_by is not null;

do $$
begin
    perform audit.cover('catalog.version_source', '{dataset_id, version, source, digest, uses}');
    perform audit.cover('catalog.review', '{review_id, dataset_id, version, seed, rows}');
    perform audit.cover('catalog.review_row', '{review_id, place, digest}');
    perform audit.cover('catalog.review_answer', '{review_answer_id, review_id, place, rater, good}', '{reason}');
    perform audit.cover('catalog.locked_reading', '{locked_reading_id, dataset_id, version, login, read_at}');
    perform audit.cover('catalog.generated_row', '{generated_row_id, use_case, digest, made_by, checked_by}');
    perform audit.cover('catalog.signoff', '{signoff_id, dataset_id, version, role, answer, person}');
    perform audit.cover('catalog.document_version', '{document_version_id, document_id, digest, classification, groups, status, retain_until, uses}',
                        '{body}');
    perform audit.cover('rag.acl_set', '{acl_id, use_case, tenant, classification, groups, uses}');
    perform audit.cover('release.person', '{name, airflow_id, login, approver, data_owner, privacy_reviewer, ended_at}');
end
$$;

-- Signing data, the same way.
grant execute on function catalog.answer_signoff to approver, approvers;
grant execute on function catalog.signoff_refusal, catalog.signoff_eligible to pipeline, approver, approvers;
grant execute on function catalog.to_sign, catalog.signoff_state, catalog.trained_unsigned
    to pipeline, trainer, evaluator, gatekeeper, reader, auditor, approver, approvers;
grant select on catalog.signoffs, catalog.signoff_answers to pipeline, trainer, evaluator, gatekeeper, reader, auditor, approver, approvers;
grant select on catalog.signoff to auditor;
grant select on catalog.version_source to trainer, evaluator, auditor;
grant select on catalog.version_sources, catalog.generated_rows, catalog.reviews to reader, auditor, pipeline;
grant select on catalog.dataset_versions, catalog.reviews to gatekeeper;

grant select on catalog.version_source, catalog.signoff, catalog.generated_row, catalog.review, catalog.review_row, catalog.review_answer to pipeline;
grant insert (dataset_id, version, seed, rows, requested_by) on catalog.review to pipeline;
grant insert (review_id, place, digest, stratum, swapped) on catalog.review_row to pipeline;
grant insert (review_id, place, rater, good, preferred, reason) on catalog.review_answer to pipeline;
grant insert (use_case, digest, made_by, prompt_digest, made_on, checked_by) on catalog.generated_row to pipeline;
grant update (source) on catalog.example, catalog.locked_example to pipeline;
grant insert (run_id) on catalog.dataset_version to pipeline;
grant insert (dataset_id, version, source, digest, uses, description, rows) on catalog.version_source to pipeline;
grant insert (uses) on catalog.document_version to pipeline;
grant insert (uses) on rag.acl_set to pipeline;
revoke select on catalog.locked_example from evaluator;
grant select on catalog.locked_reading to pipeline;
grant execute on function catalog.announce_locked_reading, catalog.read_locked to evaluator;
grant select on catalog.locked_readings to reader, auditor, pipeline;
grant execute on function rag.acl_ids, rag.open_session, rag.open_session_as to pipeline;
grant execute on function rag.open_session to evaluator;
grant execute on function rag.token_acl_ids to public;

reset role;
