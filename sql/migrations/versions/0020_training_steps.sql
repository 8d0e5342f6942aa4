-- What trainings measure, step by step, while they train.
set local role nightshift_owner;

-- training_step: what a training measured at each step, written while it trains. Its digests and final figures stand in the
-- adapter; this is what a person looks at meanwhile. Losses are means per supervised token, in nats; NaN is kept.
create table lineage.training_step (
    run_id uuid not null references lineage.run,
    step int not null check (step >= 0), -- 0: before the first
    fence bigint not null, -- the attempt that wrote it: one that goes on from a checkpoint writes what stands in that again
    epoch float8,
    loss float8,
    learning_rate float8,
    gradient_norm float8,
    margin float8, -- of preferences: how much likelier the chosen side became than the rejected
    accuracy float8, -- of preferences: the share in which it did
    eval_loss float8, -- on the validation rows
    eval_margin float8,
    eval_accuracy float8,
    tokens_per_second float8,
    supervised_per_second float8,
    memory_mib int, -- the peak so far: of the GPU, or of the process
    at timestamptz not null default clock_timestamp(),
    primary key (run_id, step)
);

-- record_steps: writes what an attempt measured; what was not measured this time stays as it was.
create function lineage.record_steps(p_run uuid, p_fence bigint, p_steps jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform lineage.hold_attempt(p_run, p_fence);
    if not exists (select from lineage.run r join lineage.job j using (job_id) where r.run_id = p_run and j.name like 'training.%') then
        raise exception 'run % is no training', p_run using errcode = 'NS030';
    end if;
    insert into lineage.training_step as t (
        run_id, step, fence, epoch, loss, learning_rate, gradient_norm, margin, accuracy, eval_loss, eval_margin, eval_accuracy,
        tokens_per_second, supervised_per_second, memory_mib)
    select p_run, s.step, p_fence, s.epoch, s.loss, s.learning_rate, s.gradient_norm, s.margin, s.accuracy, s.eval_loss,
           s.eval_margin, s.eval_accuracy, s.tokens_per_second, s.supervised_per_second, s.memory_mib
    from jsonb_to_recordset(p_steps) as s (
        step int, epoch float8, loss float8, learning_rate float8, gradient_norm float8, margin float8, accuracy float8,
        eval_loss float8, eval_margin float8, eval_accuracy float8, tokens_per_second float8, supervised_per_second float8,
        memory_mib int)
    on conflict (run_id, step) do update set
        fence = excluded.fence, epoch = coalesce(excluded.epoch, t.epoch), loss = coalesce(excluded.loss, t.loss),
        learning_rate = coalesce(excluded.learning_rate, t.learning_rate),
        gradient_norm = coalesce(excluded.gradient_norm, t.gradient_norm),
        margin = coalesce(excluded.margin, t.margin), accuracy = coalesce(excluded.accuracy, t.accuracy),
        eval_loss = coalesce(excluded.eval_loss, t.eval_loss), eval_margin = coalesce(excluded.eval_margin, t.eval_margin),
        eval_accuracy = coalesce(excluded.eval_accuracy, t.eval_accuracy),
        tokens_per_second = coalesce(excluded.tokens_per_second, t.tokens_per_second),
        supervised_per_second = coalesce(excluded.supervised_per_second, t.supervised_per_second),
        memory_mib = coalesce(excluded.memory_mib, t.memory_mib), at = clock_timestamp();
end
$$;

-- training_curve: what each training measured at each step, also while it runs.
create view lineage.training_curve as
select j.use_case, j.name as job, r.run_id, r.state, r.started_at, s.step, s.epoch, s.loss, s.eval_loss, s.learning_rate,
       s.gradient_norm, s.margin, s.accuracy, s.eval_margin, s.eval_accuracy, s.tokens_per_second, s.supervised_per_second,
       s.memory_mib, s.fence, s.at
from lineage.training_step s join lineage.run r using (run_id) join lineage.job j using (job_id);

alter table lineage.artifact drop constraint artifact_kind_check;
alter table lineage.artifact add constraint artifact_kind_check check (kind in (
    'snapshot', 'check_report', 'dataset', 'corpus', 'card', 'base_model', 'adapter', 'merged_model',
    'index_plan', 'index_generation', 'evaluation', 'gate_report', 'packet', 'certificate', 'reference_log_probs'));
-- How likely the reference of preference tuning finds each pair's answers: kept, so that the next tuning reads it.
update lineage.permission set kinds = '{adapter, reference_log_probs}' where login = 'trainer' and job = 'training.dpo';

-- purge_retrained: what was trained on erased rows and is live nowhere: the weights may hold them, and nobody may go back to them.
-- Returns the artifacts whose files are to go.
create or replace function lineage.purge_retrained() returns table (kind text, digest text)
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update lineage.artifact_version v set purged_at = clock_timestamp()
    from lineage.artifact a
    where a.artifact_id = v.artifact_id and a.kind in ('adapter', 'merged_model', 'reference_log_probs') and v.purged_at is null
      and not exists (select from lineage.deployment d where d.model_version_id = v.version_id and d.valid_to is null)
      and catalog.trained_on_erased(v.version_id) > 0
    returning a.kind, v.digest
$$;

grant select on lineage.training_step, lineage.training_curve to pipeline, trainer, evaluator, auditor, approver, gatekeeper;
grant select on lineage.training_curve to reader;
grant execute on function lineage.record_steps to trainer;

reset role;
