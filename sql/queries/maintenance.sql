-- audit_head --
-- The newest sealed block, and what time it is.
select b.block_no, b.hash, c.now as at
from (select clock_timestamp() as now) c
left join lateral (select block_no, hash from audit.chain order by block_no desc limit 1) b on true;

-- audit_blocks --
-- The hashes of the given blocks, as the chain holds them now.
select block_no, hash from audit.chain where block_no = any (:'blocks'::bigint[]);

-- standing_artifacts --
-- Every artifact that should stand in the artifact store.
select distinct a.kind, v.digest, v.uri
from lineage.artifact_version v join lineage.artifact a using (artifact_id)
where v.uri is not null and v.purged_at is null
  and not exists (select from lineage.artifact_version p join lineage.artifact b using (artifact_id)
                  where b.kind = a.kind and p.digest = v.digest and p.purged_at is not null)
order by a.kind, v.digest;

-- purged_artifacts --
-- Every artifact that should stand in no store any more.
select distinct a.kind, v.digest
from lineage.artifact_version v join lineage.artifact a using (artifact_id)
where v.purged_at is not null
  and not exists (select from lineage.artifact_version p join lineage.artifact b using (artifact_id)
                  where b.kind = a.kind and p.digest = v.digest and p.purged_at is null)
order by a.kind, v.digest;

-- running_attempts --
-- The attempts whose scratch folders are in use.
select run_id, fence from lineage.attempt where state = 'running';
