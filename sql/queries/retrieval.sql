-- corpus --
-- The newest version of a use case's documents.
select v.version, v.digest, v.artifact_version_id
from catalog.dataset_version v
join catalog.dataset s using (dataset_id)
where s.use_case = :'use_case' and s.kind = 'documents'
order by v.version desc
limit 1;

-- documents --
-- What of a corpus goes into an index: its approved documents that may be searched, but none that was withdrawn after its
-- version was seen.
select d.document_key, v.document_version_id, v.digest, v.title, v.body, v.tenant, v.classification,
       (select array_agg(distinct g order by g) from unnest(v.groups) g) as groups, v.fresh_until, v.uses
from catalog.dataset_version n
join catalog.document_member m on m.dataset_id = n.dataset_id and m.added_in <= n.version
                              and (m.removed_in is null or m.removed_in > n.version)
join catalog.document_version v using (document_version_id)
join catalog.document d using (document_id)
where n.artifact_version_id = :'corpus'::bigint and v.status = 'approved' and v.body is not null
  and v.uses && array['rag', 'evaluate', 'train']
  -- The same content may have been committed twice: A, B, and A again are one artifact and two versions.
  and n.version = (select max(o.version) from catalog.dataset_version o where o.artifact_version_id = n.artifact_version_id)
  and not exists (select from rag.withdrawal w where w.use_case = d.use_case and w.document_key = d.document_key
                  and w.seq > v.withdrawal_mark)
  and (:'digests'::text[] is null or v.digest = any (:'digests'::text[]))
order by d.document_key, v.document_version_id;

-- live_generation --
-- The index generation that is live, with the corpus it is the index of and the withdrawals that came in since it was begun.
select g.generation_id, g.digest, g.embedder, g.chunker, g.text_search, g.chunks, g.corpus_version_id, rag.standing(g.generation_id) as standing,
       (select count(*) from rag.withdrawal w where w.use_case = g.use_case and w.seq > g.tombstone_mark) as withdrawals_since
from lineage.live l
join rag.generation g on g.artifact_version_id = l.index_version_id and g.use_case = l.use_case
where l.use_case = :'use_case' and l.alias = 'live' and g.state in ('attached', 'live', 'retired');

-- standing_generation --
-- The generation with this content, if it can still be searched.
select g.generation_id, g.state, g.chunks
from rag.generation g
where g.use_case = :'use_case' and g.digest = :'digest' and g.state in ('attached', 'live', 'retired')
  and rag.standing(g.generation_id);

-- generation --
-- One generation.
select generation_id, use_case, state, embedder, chunker, digest, artifact_version_id, corpus_version_id, chunks, gates
from rag.generation
where generation_id = :'generation'::int;

-- generation_documents --
-- The documents of a generation, with the digest of the version it holds.
select c.document_key, v.digest, sum(c.chunks)::bigint as chunks
from rag.contents(:'generation'::int) c
join catalog.document_version v using (document_version_id)
group by c.document_key, v.digest
order by c.document_key;

-- generation_keys --
-- The documents of a generation.
select distinct c.document_key from rag.contents(:'generation'::int) c;

-- generation_counts --
-- Chunks of a generation by tenant and right to read, withdrawn ones apart.
select c.tenant, a.classification, a.groups, a.uses, sum(c.chunks)::bigint as chunks,
       coalesce(sum(c.chunks) filter (where c.status = 2), 0)::bigint as withdrawn
from rag.contents(:'generation'::int) c
join rag.acl_set a using (acl_id)
group by c.tenant, a.classification, a.groups, a.uses
order by c.tenant, a.classification, a.groups, a.uses;

-- generation_digests --
-- The chunks of a generation by digest.
select text_digest from rag.text_digests(:'generation'::int);

-- cached_digests --
-- Those of the given chunks that have an embedding.
select text_digest from rag.embedding_cache
where embedder = :'embedder' and text_digest = any (:'digests'::text[]);

-- cached_embeddings --
-- The embeddings of the given chunks.
select text_digest, embedding from rag.embedding_cache
where embedder = :'embedder' and text_digest = any (:'digests'::text[]);

-- cache_embedding --
-- Stores one embedding, unless it is there.
insert into rag.embedding_cache (text_digest, embedder, embedding)
values (:'text_digest', :'embedder', :'embedding'::halfvec)
on conflict do nothing;

-- add_acl_set --
-- Names a right to read, unless it has a name.
insert into rag.acl_set (use_case, tenant, classification, groups, uses)
values (:'use_case', :'tenant', :'classification', :'groups'::text[], :'uses'::text[])
on conflict do nothing;

-- acl_sets --
-- The rights to read of a use case.
select acl_id, tenant, classification, groups, uses from rag.acl_set where use_case = :'use_case';

-- lock_build --
-- Waits until no other session builds an index of this use case. Held until the session ends, however it ends.
select rag.lock_work(:'use_case', 'build');

-- lock_sync --
-- Waits until no other session brings the index of this use case up to date. Held until the session ends.
select rag.lock_work(:'use_case', 'sync');

-- try_lock_build --
-- Whether no session builds an index of this use case; if so, the lock is held until it is given back.
select rag.try_lock_work(:'use_case', 'build') as held;

-- unlock_build --
-- Gives the lock back.
select rag.unlock_work(:'use_case', 'build');

-- unfinished_generations --
-- Generations whose build began and did not end.
select generation_id from rag.generation where use_case = :'use_case' and state = 'building' order by generation_id;

-- superseded_generations --
-- Generations that are neither live nor among the last so many that were, newest first.
select g.generation_id
from rag.generation g
where g.use_case = :'use_case'
  and (g.state = 'retired' or (g.state = 'attached' and g.attached_at < clock_timestamp() - interval '1 day')) -- a fresh one may be about to go live
  and g.artifact_version_id not in (
      select recent.index_version_id from (
          select d.index_version_id, max(d.deployment_id) as last_live from lineage.deployment d
          where d.use_case = :'use_case' and d.index_version_id is not null
          group by d.index_version_id
          order by max(d.deployment_id) desc
          limit :'kept'::int
      ) recent)
order by g.generation_id desc;

-- use_cases --
-- The use cases that have an index.
select distinct use_case from rag.generation where state <> 'dropped' order by use_case;

-- search --
-- The chunks that fit best among those that the token may see, in what is live: by id, against an audit row.
select audit_id, route, reason, chunk_ids from rag.search(:'token', :'embedding'::halfvec, :'text', :'k'::int);

-- search_generation --
-- The chunks that fit best among those that the token may see, in one generation: by id, against an audit row.
select audit_id, route, reason, chunk_ids
from rag.search_generation(:'token', :'generation'::int, :'embedding'::halfvec, :'text', :'k'::int);

-- read_hits --
-- The text of what a committed search found, once.
select document_key, document_version_id, chunk_id, score, body
from rag.read_hits(:'token', :'audit'::bigint, :'embedding'::halfvec);

-- generation_of --
-- The generation that an index version names.
select generation_id from rag.generation
where use_case = :'use_case' and artifact_version_id = :'version'::bigint and state in ('attached', 'live', 'retired');

-- status --
-- The generations of a use case that stand, newest first, and which of them is live.
select g.generation_id, g.state, g.digest, g.embedder, g.chunks, g.gates, g.created_at, g.attached_at,
       l.deployment_id, l.valid_from as live_from
from rag.generations g
left join lineage.live l on l.use_case = g.use_case and l.alias = 'live' and l.index_digest = g.digest
where g.use_case = :'use_case' and g.state <> 'dropped'
order by g.generation_id desc;

-- today --
-- The database's day, in UTC.
select (clock_timestamp() at time zone 'UTC')::date as today;
