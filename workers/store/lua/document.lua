-- Comes before the scripts that store documents.
-- Stores a document of a kind in the hash of that kind. The first one of a kind enters the hash in the index, by which a
-- run is forgotten; `state` has its field 'kinds', which the caller writes.
local function keep_document(state, index, hash, kind, name, text)
  redis.call('HSET', hash, name, text)
  local kinds = state.kinds or ' '
  if not string.find(kinds, ' ' .. kind .. ' ', 1, true) then
    redis.call('SADD', index, hash)
    kinds = kinds .. kind .. ' '
  end
  state.kinds = kinds
end
