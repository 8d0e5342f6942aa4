-- Uses: what a source may be used for is held by the database, whichever code path writes.

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
deferrable initially deferred for each row when (not new.uses @> array['train', 'evaluate']) execute function catalog.keep_to_uses();

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
