-- Catalog: documents, examples and the versions made of them. Text stands here and in registered private artifacts only,
-- so that an erasure has two places to go to.

create table catalog.dataset (
    dataset_id bigint generated always as identity primary key,
    use_case text not null,
    kind text not null check (kind in ('examples', 'documents')),
    unique (use_case, kind)
);

-- A version is a number; what it holds are the members whose interval contains the number. A version costs what changed.
create table catalog.dataset_version (
    dataset_id bigint not null references catalog.dataset,
    version int not null check (version > 0),
    digest text not null,
    artifact_version_id bigint not null references lineage.artifact_version,
    counts jsonb not null, -- members by split, kind or classification
    committed_at timestamptz not null default clock_timestamp(),
    run_id uuid references lineage.run, -- that committed it; null: from before this was kept
    primary key (dataset_id, version)
);

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

create table catalog.document (
    document_id bigint generated always as identity primary key,
    use_case text not null,
    document_key text not null, -- the id in the source
    unique (use_case, document_key)
);

create table catalog.document_version (
    document_version_id bigint generated always as identity primary key,
    document_id bigint not null references catalog.document,
    digest text not null, -- of text and metadata
    text_digest text not null, -- of the text alone: equal text needs no new embedding
    title text not null,
    body text, -- null once erased
    tenant text not null,
    classification text not null check (classification in ('public', 'internal', 'confidential', 'restricted')),
    groups text[] not null check (cardinality(groups) > 0),
    owner text not null,
    source text,
    status text not null check (status in ('approved', 'withdrawn')),
    fresh_until date,
    retain_until date,
    first_seen_at timestamptz not null default clock_timestamp(),
    withdrawal_mark bigint not null default 0, -- the last withdrawal of the document that came before this version
    subject text, -- the person it is about, if any
    uses text[] not null default '{rag,train,evaluate,log}' check (uses <@ array['rag', 'train', 'evaluate', 'log']),
    unique (document_id, digest)
);

-- Where a document was read last: when its file cannot be read any more, this says which document stays served as it was.
create table catalog.document_place (
    document_id bigint primary key references catalog.document,
    source text not null,
    file text not null
);

create table catalog.document_member (
    dataset_id bigint not null references catalog.dataset,
    document_version_id bigint not null references catalog.document_version,
    added_in int not null,
    removed_in int check (removed_in > added_in),
    primary key (dataset_id, document_version_id, added_in)
);
create unique index document_member_now on catalog.document_member (dataset_id, document_version_id) where removed_in is null;

create table catalog.example (
    use_case text not null,
    digest text not null,
    kind text not null check (kind in ('sft', 'preference', 'text')),
    split text not null check (split in ('train', 'validation')), -- test rows stand in locked_example
    content jsonb, -- null once erased
    subject text, -- the person a row is about, if any
    documents text[] not null default '{}', -- keys of the documents a row speaks of
    source text not null,
    first_seen_at timestamptz not null default clock_timestamp(),
    text_digest text not null default '', -- of the content as the database writes it: set by a trigger
    primary key (use_case, digest)
);
create index example_by_subject on catalog.example (use_case, subject) where subject is not null;

-- The rows of the test split, which the trainer's role cannot read.
create table catalog.locked_example (
    use_case text not null,
    digest text not null,
    kind text not null check (kind in ('sft', 'preference', 'text')),
    split text not null default 'test' check (split = 'test'),
    content jsonb,
    subject text,
    documents text[] not null default '{}',
    source text not null,
    first_seen_at timestamptz not null default clock_timestamp(),
    text_digest text not null default '',
    primary key (use_case, digest)
);
create index locked_example_by_subject on catalog.locked_example (use_case, subject) where subject is not null;

create table catalog.example_member (
    dataset_id bigint not null references catalog.dataset,
    example_digest text not null,
    split text not null check (split in ('train', 'validation', 'test')),
    added_in int not null,
    removed_in int check (removed_in > added_in),
    primary key (dataset_id, example_digest, added_in)
);
create unique index example_member_now on catalog.example_member (dataset_id, example_digest) where removed_in is null;

-- The split of a prompt is fixed when it is first seen, and rows that share a prompt share it: no later version may
-- move a row from test to train.
create table catalog.split_assignment (
    use_case text not null,
    group_digest text not null,
    split text not null check (split in ('train', 'validation', 'test')),
    assigned_at timestamptz not null default clock_timestamp(),
    primary key (use_case, group_digest)
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

-- What the checks found: places and rules, never the text of a row.
create table catalog.finding (
    finding_id bigint generated always as identity primary key,
    use_case text not null,
    run_id uuid not null references lineage.run,
    file text not null,
    line int,
    rule text not null,
    severity text not null check (severity in ('rejected', 'warning', 'waiting')), -- waiting: for a person's acceptance
    detail text not null,
    digest text
);
create index finding_by_run on catalog.finding (run_id);
create index finding_by_digest on catalog.finding (use_case, digest) where digest is not null;

-- The rows of a check while Great Expectations looks at them: places, rules and lengths.
create unlogged table catalog.staged_row (
    run_id uuid not null,
    part text not null check (part in ('examples', 'documents')),
    source text not null, -- what counts as one file: itself, or the folder that it is one of many in
    file text not null,
    rule text, -- that left the row out
    counts_as_bad boolean not null, -- whether that says something against the source
    answer_characters int
);

-- The data steward's answers to findings. A correction is a new row.
create table catalog.steward_decision (
    steward_decision_id bigint generated always as identity primary key,
    finding_id bigint not null references catalog.finding,
    decision text not null check (decision in ('accept', 'reject')),
    person text not null,
    reason text not null,
    decided_at timestamptz not null default clock_timestamp(),
    until date, -- the last day that an acceptance counts; null: it has no end
    check (until is null or decision = 'accept')
);
create index steward_decision_by_finding on catalog.steward_decision (finding_id);

-- What was erased must not come back, and the list of it must not be a list of what it was: HMACs, under a key that
-- stands outside the database.
create table catalog.tombstone (
    hmac text primary key check (hmac ~ '^[0-9a-f]{64}$'),
    use_case text not null,
    kind text not null check (kind in ('example', 'document', 'subject', 'document_key')),
    reason text not null,
    buried_at timestamptz not null default clock_timestamp()
);

-- members: the members of a dataset at a version. They have the caller's rights and no search path of their own, so that Postgres takes
-- them into the query that names them: called as functions they would be gone through once for each row that they are joined with.
create function catalog.example_members(p_dataset bigint, p_version int)
returns table (example_digest text, split text)
language sql stable security invoker as $$
    select m.example_digest, m.split from catalog.example_member m
    where m.dataset_id = p_dataset and m.added_in <= p_version and (m.removed_in is null or m.removed_in > p_version)
$$;

create function catalog.document_members(p_dataset bigint, p_version int)
returns table (document_version_id bigint)
language sql stable security invoker as $$
    select m.document_version_id from catalog.document_member m
    where m.dataset_id = p_dataset and m.added_in <= p_version and (m.removed_in is null or m.removed_in > p_version)
$$;

-- keep_text: a text whose digest stands is erased or given back, and never rewritten, whoever may update the column.
create function catalog.keep_text() returns trigger
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
create trigger text_is_kept before update of body on catalog.document_version
for each row execute function catalog.keep_text('body');
create trigger text_is_kept before update of content on catalog.example
for each row execute function catalog.keep_text('content');
create trigger text_is_kept before update of content on catalog.locked_example
for each row execute function catalog.keep_text('content');
