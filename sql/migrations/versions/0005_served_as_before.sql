-- Documents that cannot be read, or that more could read, stay served as they were until somebody has looked.
set local role nightshift_owner;

alter table catalog.finding drop constraint finding_severity_check, add constraint finding_severity_check
    check (severity in ('rejected', 'warning', 'waiting'));

create table catalog.document_place (
    document_id bigint primary key references catalog.document,
    source text not null,
    file text not null
);
grant select, insert on catalog.document_place to pipeline;
grant update (source, file) on catalog.document_place to pipeline;

reset role;
