-- Erasure: a person, a document or a row is forgotten. What was asked for, who agreed and which rows went stays on record,
-- by digests; the text and the names go. A row that was erased comes back by no path, and a model that was trained on one
-- is not made live again.

create table catalog.erasure (
    erasure_id bigint generated always as identity primary key,
    use_case text not null,
    kind text not null check (kind in ('subject', 'document', 'example')),
    basis text not null check (basis in ('request', 'retention')), -- retention: the document's own date has come
    reference text, -- the person's key, the document's or the row's digest; null once it is carried out
    reason text not null check (btrim(reason) <> ''),
    impact text not null, -- what it touched when it was asked for, as who is to agree reads it: counts and digests
    requested_by text not null,
    requested_at timestamptz not null default clock_timestamp(),
    run_id uuid references lineage.run, -- that carried it out
    counts jsonb, -- what went
    erased_at timestamptz,
    check ((erased_at is null) = (run_id is null) and (erased_at is null) = (counts is null)),
    check (erased_at is null or reference is null)
);

create table catalog.erasure_answer (
    erasure_answer_id bigint generated always as identity primary key,
    erasure_id bigint not null references catalog.erasure,
    answer text not null check (answer in ('approve', 'reject', 'refused')), -- refused: an approval that the rules do not accept
    person text not null,
    reason text not null,
    login text not null default session_user,
    answered_at timestamptz not null default clock_timestamp()
);
create unique index one_erasure_answer on catalog.erasure_answer (erasure_id) where answer <> 'refused';

-- The rows that went, by digest. The database alone writes them.
create table catalog.erased_row (
    use_case text not null,
    kind text not null check (kind in ('example', 'document')),
    digest text not null, -- of a document: of its version
    erasure_id bigint not null references catalog.erasure,
    split text, -- of an example
    document_version_id bigint references catalog.document_version,
    primary key (use_case, kind, digest)
);
create index erased_row_by_erasure on catalog.erased_row (erasure_id);
create index erased_row_by_document on catalog.erased_row (document_version_id) where document_version_id is not null;

-- rows_about: the rows with text that are about a person, of a document, or have a digest; and the examples that speak of such a
-- document.
create function catalog.rows_about(p_use_case text, p_kind text, p_reference text)
returns table (kind text, digest text, split text, document_version_id bigint)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
    with keys as (
        select d.document_id, d.document_key from catalog.document d
        where d.use_case = p_use_case and case p_kind
            when 'document' then d.document_key = p_reference
            when 'subject' then exists (select from catalog.document_version v
                                        where v.document_id = d.document_id and v.subject = p_reference and v.body is not null) end
    )
    select 'example', e.digest, e.split, null::bigint
    from (select x.use_case, x.digest, x.split, x.subject, x.documents from catalog.example x where x.content is not null
          union all
          select x.use_case, x.digest, x.split, x.subject, x.documents from catalog.locked_example x where x.content is not null) e
    where e.use_case = p_use_case and case p_kind
        when 'subject' then e.subject = p_reference or e.documents && array(select k.document_key from keys k)
        when 'document' then e.documents @> array[p_reference]
        when 'example' then e.digest = p_reference end
    union all
    select 'document', v.digest, null, v.document_version_id
    from keys k join catalog.document_version v using (document_id)
    where v.body is not null
$$;

-- retained: whether a document still has to be kept, by the dates of any of its versions; one without a date is.
create function catalog.retained(p_use_case text, p_document_key text) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
    select coalesce(bool_or(v.retain_until is null or v.retain_until >= (clock_timestamp() at time zone 'UTC')::date), true)
    from catalog.document d join catalog.document_version v using (document_id)
    where d.use_case = p_use_case and d.document_key = p_document_key and v.body is not null
$$;

-- trained_on_erased: how many rows that were erased since the training of a model, or of what it was trained from, was given.
create function catalog.trained_on_erased(p_version bigint) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select count(distinct (r.use_case, r.digest))
    from lineage.ancestry(p_version) a
    join lineage.run_output o on o.version_id = a.version_id
    join lineage.run t on t.run_id = o.run_id and t.state = 'succeeded'
    join lineage.job j on j.job_id = t.job_id and lineage.trains(j.name)
    join lineage.run_input i on i.run_id = t.run_id and i.role = 'dataset'
    join catalog.dataset_version v on v.artifact_version_id = i.version_id
    join catalog.dataset d on d.dataset_id = v.dataset_id and d.kind = 'examples'
    join catalog.erased_row r on r.use_case = d.use_case and r.kind = 'example' and r.split in ('train', 'validation')
    join catalog.example_member m on m.dataset_id = v.dataset_id and m.example_digest = r.digest
                                 and m.added_in <= v.version and (m.removed_in is null or m.removed_in > v.version)
$$;

-- erased_rows_of: how many rows of a dataset version were erased since it was committed.
create function catalog.erased_rows_of(p_dataset bigint, p_version int) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select (select count(*) from catalog.example_member m
            join catalog.dataset d using (dataset_id)
            join catalog.erased_row r on r.use_case = d.use_case and r.kind = 'example' and r.digest = m.example_digest
            where m.dataset_id = p_dataset and m.added_in <= p_version and (m.removed_in is null or m.removed_in > p_version))
         + (select count(*) from catalog.document_member m
            join catalog.erased_row r on r.kind = 'document' and r.document_version_id = m.document_version_id
            where m.dataset_id = p_dataset and m.added_in <= p_version and (m.removed_in is null or m.removed_in > p_version))
$$;

-- request_erasure: writes down what somebody asks for. Nothing goes by it.
create function catalog.request_erasure(
    p_use_case text, p_kind text, p_basis text, p_reference text, p_reason text, p_impact text, p_requested_by text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_erasure bigint;
begin
    if not exists (select from catalog.rows_about(p_use_case, p_kind, p_reference)) then
        raise exception 'use case % has no row to erase for this %', p_use_case, p_kind using errcode = 'NS021';
    end if;
    if p_basis = 'retention' and (p_kind <> 'document' or catalog.retained(p_use_case, p_reference)) then
        raise exception 'this document has still to be kept' using errcode = 'NS041';
    end if;
    -- Asked for twice by the same, it is one.
    select e.erasure_id into v_erasure from catalog.erasure e
    where e.use_case = p_use_case and e.kind = p_kind and e.basis = p_basis and e.reference = p_reference
      and e.requested_by = p_requested_by
      and not exists (select from catalog.erasure_answer a where a.erasure_id = e.erasure_id and a.answer <> 'refused');
    if v_erasure is not null then
        return v_erasure;
    end if;
    insert into catalog.erasure (use_case, kind, basis, reference, reason, impact, requested_by)
    values (p_use_case, p_kind, p_basis, p_reference, p_reason, p_impact, p_requested_by)
    returning erasure_id into v_erasure;
    return v_erasure;
end
$$;

-- erasure_refusal: why this person cannot agree to this erasure; null where he can. Where a release asks a second person, an
-- erasure does.
create function catalog.erasure_refusal(p_erasure bigint, p_person text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_erasure catalog.erasure;
    v_requester text;
begin
    select * into v_erasure from catalog.erasure e where e.erasure_id = p_erasure;
    v_requester := release.person_of(v_erasure.requested_by);
    if not exists (select from release.person p where p.name = p_person and p.ended_at is null) then
        return format('%s is no person who is known here', p_person);
    elsif v_requester is null and not release.impersonal(v_erasure.requested_by) then
        return format('nobody can be told apart from %s, who asked for this erasure and is not known here', v_erasure.requested_by);
    elsif v_requester = p_person and release.asks_a_person(release.in_force(v_erasure.use_case, clock_timestamp())) then
        return format('%s asked for this erasure, and another person has to agree to it', p_person);
    end if;
    return null;
end
$$;

-- erasure_eligible: who may agree to an erasure.
create function catalog.erasure_eligible(p_erasure bigint) returns table (name text, airflow_id text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select p.name, p.airflow_id from release.person p where catalog.erasure_refusal(p_erasure, p.name) is null order by p.name
$$;

-- answer_erasure: a person's answer, by the rules of release.answer: who answers is whose login this session is, and the worker
-- that hands on Airflow's logins alone names somebody. Returns the answer as it counts.
create function catalog.answer_erasure(p_erasure bigint, p_answer text, p_person text, p_reason text, p_use_case text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_erasure catalog.erasure;
    v_answer text := p_answer;
    v_reason text := coalesce(nullif(btrim(p_reason), ''), 'no reason given');
    v_person text := release.whoami();
    v_final text;
begin
    if p_answer is null or p_answer not in ('approve', 'reject') then
        raise exception 'an answer is approve or reject, not %', p_answer using errcode = 'NS021';
    end if;
    select * into v_erasure from catalog.erasure e where e.erasure_id = p_erasure for update;
    if v_erasure.erasure_id is null or v_erasure.use_case is distinct from p_use_case then
        raise exception 'there is no erasure %', concat_ws(' of ', p_erasure, p_use_case) using errcode = 'NS021';
    end if;
    if session_user = 'approver' then
        v_person := coalesce(release.person_of(p_person), 'unknown:' || left(coalesce(p_person, ''), 200));
    elsif p_person is not null and release.person_of(p_person) is distinct from v_person then
        raise exception 'the login % answers in its own name alone', session_user using errcode = 'NS025';
    end if;
    v_person := coalesce(v_person, 'login:' || session_user);
    select a.answer into v_final from catalog.erasure_answer a where a.erasure_id = p_erasure and a.answer <> 'refused';
    if v_final is not null then
        raise exception 'erasure % has been answered: %', p_erasure, v_final using errcode = 'NS022';
    end if;
    if p_answer = 'approve' and catalog.erasure_refusal(p_erasure, v_person) is not null then
        v_answer := 'refused';
        v_reason := catalog.erasure_refusal(p_erasure, v_person);
    end if;
    insert into catalog.erasure_answer (erasure_id, answer, person, reason) values (p_erasure, v_answer, v_person, v_reason);
    if v_answer = 'reject' then -- nothing of whom it was about stays
        update catalog.erasure e set reference = null where e.erasure_id = p_erasure;
    end if;
    return v_answer;
end
$$;

-- erase: carries an erasure out: text and names go from every table that holds them, the digests stay. Once; asked again by the
-- same run it returns what went. The caller holds the locks of commits and builds, and writes the tombstones in this transaction.
create function catalog.erase(p_run uuid, p_fence bigint, p_erasure bigint) returns jsonb
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
create function catalog.rewrite_erased(p_erasure bigint) returns setof text
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

-- purge_snapshots: these private snapshots are not to stand any more. Only snapshots go by it: they are made again from the sources.
create function lineage.purge_snapshots(p_use_case text, p_versions bigint[]) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_purged bigint;
begin
    perform lineage.permitted('data.certify');
    update lineage.artifact_version v set purged_at = clock_timestamp()
    from lineage.artifact a
    where a.artifact_id = v.artifact_id and a.use_case = p_use_case and a.kind = 'snapshot' and v.private and v.purged_at is null
      and v.version_id = any (p_versions);
    get diagnostics v_purged = row_count;
    return v_purged;
end
$$;

-- purge_retrained: what was trained on erased rows and is live nowhere: the weights may hold them, and nobody may go back to them.
-- Returns the artifacts whose files are to go.
create function lineage.purge_retrained() returns table (kind text, digest text)
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update lineage.artifact_version v set purged_at = clock_timestamp()
    from lineage.artifact a
    where a.artifact_id = v.artifact_id and a.kind in ('adapter', 'merged_model', 'reference_log_probs') and v.purged_at is null
      and not exists (select from lineage.deployment d where d.model_version_id = v.version_id and d.valid_to is null)
      and catalog.trained_on_erased(v.version_id) > 0
    returning a.kind, v.digest
$$;

-- check_exported: a model that was trained on rows which were erased since is taken out by nobody.
create function catalog.check_exported() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from lineage.run r join lineage.job j using (job_id) where r.run_id = new.run_id and j.name = 'training.export')
       and catalog.trained_on_erased(new.version_id) > 0 then
        raise exception 'this model was trained on rows that were erased since: it is not exported' using errcode = 'NS016';
    end if;
    return new;
end
$$;
create trigger exported before insert on lineage.run_input for each row execute function catalog.check_exported();

-- stay_erased: the text of a row that was erased comes back by no path.
create function catalog.stay_erased() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_erased boolean;
begin
    if tg_table_name = 'document_version' then
        v_erased := exists (select from catalog.erased_row r where r.document_version_id = new.document_version_id);
    else
        v_erased := exists (select from catalog.erased_row r
                            where r.use_case = new.use_case and r.kind = 'example' and r.digest = new.digest);
    end if;
    if v_erased then
        raise exception 'this row of % was erased and does not come back', tg_table_name using errcode = 'NS016';
    end if;
    return new;
end
$$;
create trigger stays_erased before insert or update on catalog.example
for each row when (new.content is not null) execute function catalog.stay_erased();
create trigger stays_erased before insert or update on catalog.locked_example
for each row when (new.content is not null) execute function catalog.stay_erased();
create trigger stays_erased before update on catalog.document_version
for each row when (new.body is not null) execute function catalog.stay_erased();

-- What a planner knows of a column is a sample of what stands in it.
alter table catalog.example alter column content set statistics 0, alter column subject set statistics 0;
alter table catalog.locked_example alter column content set statistics 0, alter column subject set statistics 0;
alter table catalog.document_version alter column body set statistics 0, alter column title set statistics 0,
    alter column source set statistics 0, alter column subject set statistics 0;
alter table eval.suite_case alter column question set statistics 0, alter column expect set statistics 0;
alter table eval.result alter column answer set statistics 0;
alter table catalog.erasure alter column reference set statistics 0;

-- erasures: what was asked for and where it stands. Whom it was about is not shown.
create view catalog.erasures as
select e.erasure_id, e.use_case, e.kind, e.basis, e.reason, e.impact, e.requested_by, e.requested_at,
       case when e.erased_at is not null then 'erased' when a.answer = 'reject' then 'rejected'
            when a.answer = 'approve' or e.basis = 'retention' then 'due' else 'waiting' end as state,
       a.person, a.reason as answer_reason, a.answered_at, e.erased_at, e.run_id, e.counts
from catalog.erasure e
left join catalog.erasure_answer a on a.erasure_id = e.erasure_id and a.answer <> 'refused';

-- erasure_answers: what persons answered, also what did not count.
create view catalog.erasure_answers as
select erasure_answer_id, erasure_id, answer, person, reason, login, answered_at from catalog.erasure_answer;

create view catalog.erased_rows as
select r.use_case, r.kind, r.digest, r.split, r.erasure_id, e.erased_at
from catalog.erased_row r join catalog.erasure e using (erasure_id);

-- redacted_versions: the dataset versions that hold rows which were erased since. They verify by their digests still; none is trained on.
create view catalog.redacted_versions as
select s.use_case, s.kind, v.version, v.digest, v.artifact_version_id, n.erased
from catalog.dataset_version v
join catalog.dataset s using (dataset_id)
cross join lateral (select catalog.erased_rows_of(v.dataset_id, v.version) as erased) n
where n.erased > 0;

-- to_retrain: the models that were trained on rows which were erased since, and whether one is live.
create view lineage.to_retrain as
select a.use_case, a.kind, a.name, v.version_id, v.digest, n.erased as erased_rows, l.deployment_id is not null as live,
       v.created_at, v.purged_at
from lineage.artifact_version v
join lineage.artifact a on a.artifact_id = v.artifact_id and a.kind in ('adapter', 'merged_model')
left join lineage.deployment l on l.model_version_id = v.version_id and l.valid_to is null
cross join lateral (select catalog.trained_on_erased(v.version_id) as erased) n
where n.erased > 0;
