-- Rows that Great Expectations looks at while a check runs.
set local role nightshift_owner;

create unlogged table catalog.staged_row (
    run_id uuid not null,
    part text not null check (part in ('examples', 'documents')),
    source text not null, -- what counts as one file: itself, or the folder that it is one of many in
    file text not null,
    rule text, -- that left the row out
    counts_as_bad boolean not null, -- whether that says something against the source
    answer_characters int
);

grant select, delete on catalog.staged_row to pipeline;
grant insert (run_id, part, source, file, rule, counts_as_bad, answer_characters) on catalog.staged_row to pipeline;

reset role;
