-- Evaluation: suites, their cases, and every answer's score. A result is never edited; a new evaluation is a new row.
-- The text of answers stands in eval.result alone: the evaluation's artifact holds digests and scores, so that an erasure
-- has one place to go to and the evidence behind a release outlives it.

create table eval.suite (
    suite_id bigint generated always as identity primary key,
    use_case text not null,
    name text not null,
    digest text not null,
    gated boolean not null,
    cases int not null,
    first_seen_at timestamptz not null default clock_timestamp(),
    unique (use_case, name, digest)
);

-- A case of the locked test split holds no text of its own: its key is the digest of a row of catalog.locked_example.
create table eval.suite_case (
    case_id bigint generated always as identity primary key,
    suite_id bigint not null references eval.suite,
    case_key text not null,
    digest text not null,
    question text, -- null once erased
    principal text, -- null: asked on nobody's behalf, without retrieval
    expect jsonb, -- null once erased
    tags text[] not null default '{}',
    unique (suite_id, case_key)
);

create table eval.evaluation (
    evaluation_id bigint generated always as identity primary key,
    use_case text not null,
    run_id uuid not null references lineage.run,
    suite_id bigint not null references eval.suite,
    subject text not null check (subject in ('base', 'champion', 'candidate', 'sft')),
    model_version_id bigint not null references lineage.artifact_version,
    index_version_id bigint references lineage.artifact_version, -- null: answered without retrieval
    artifact_version_id bigint references lineage.artifact_version,
    metrics jsonb not null, -- per metric: value, low, high, n
    evaluated_at timestamptz not null default clock_timestamp(),
    unique nulls not distinct (run_id, suite_id, subject, index_version_id)
);
create index evaluation_by_artifact on eval.evaluation (artifact_version_id);
create index evaluation_by_model on eval.evaluation (use_case, model_version_id);

create table eval.result (
    evaluation_id bigint not null references eval.evaluation,
    case_id bigint not null references eval.suite_case,
    scores jsonb not null, -- per metric, in [0, 1]
    answer text, -- null once erased
    answer_digest text not null,
    documents text[] not null, -- keys of what was retrieved
    seconds real not null,
    primary key (evaluation_id, case_id)
);

-- check_evaluation: an evaluation is of the run that made its artifact, and written by the login that did the work.
create function eval.check_evaluation() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (
        select from lineage.run r
        join lineage.job j on j.job_id = r.job_id and j.name = 'evaluation.evaluate' and j.use_case = new.use_case
        join lineage.attempt a on a.run_id = r.run_id and a.login = session_user
        join lineage.run_output o on o.run_id = r.run_id and o.version_id = new.artifact_version_id
        where r.run_id = new.run_id
    ) then
        raise exception 'run % made no such evaluation of %, or not as the login %', new.run_id, new.use_case, session_user
            using errcode = 'NS030';
    end if;
    return new;
end
$$;
create trigger check_evaluation before insert on eval.evaluation
for each row execute function eval.check_evaluation();

-- The paired difference of two evaluations over the same cases.
create table eval.comparison (
    comparison_id bigint generated always as identity primary key,
    candidate_id bigint not null references eval.evaluation,
    baseline_id bigint not null references eval.evaluation,
    metric text not null,
    difference double precision not null,
    low double precision not null,
    high double precision not null,
    confidence double precision not null,
    n int not null,
    method text not null,
    unique (candidate_id, baseline_id, metric, method)
);

-- unserved: a digest of the documents of an index generation that it answers nobody from by now (withdrawn or expired),
-- or null where it serves them all. With the generation's own digest it says what an evaluation can have retrieved.
create function eval.unserved(p_use_case text, p_index_version bigint) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select encode(sha256(convert_to(string_agg(distinct c.document_version_id::text, ',' order by c.document_version_id::text), 'UTF8')), 'hex')
    from rag.generation g join rag.chunk c on c.generation_id = g.generation_id
    where g.use_case = p_use_case and g.artifact_version_id = p_index_version and g.state in ('attached', 'live', 'retired')
      and (c.status <> 1 or c.expires_at <= clock_timestamp())
$$;
grant execute on function eval.unserved to evaluator;
