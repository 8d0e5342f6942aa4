-- A text whose digest stands is not rewritten.
set local role nightshift_owner;

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
    if v_column = 'body' and v_old = 'null' and v_new <> 'null'
       and encode(sha256(convert_to(v_new #>> '{}', 'UTF8')), 'hex') <> to_jsonb(new) ->> 'text_digest' then
        raise exception 'the text that is given back to a document version is not the one of its digest' using errcode = 'NS016';
    end if;
    return new;
end
$$;
create trigger text_is_kept before update of body on catalog.document_version
for each row execute function catalog.keep_text('body');
create trigger text_is_kept before update of content on catalog.example
for each row execute function catalog.keep_text('content');
create trigger text_is_kept before update of content on catalog.locked_example
for each row execute function catalog.keep_text('content');

reset role;
