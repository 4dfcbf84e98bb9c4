"""What the registry has Redis do in one step, in Lua; the keys are those of :mod:`coordinator.nodes.registry`."""

from __future__ import annotations

# Parameters: node id, wanted name, seconds a name is kept, then name after name that present nodes bear, each behind
# its node's id. Gives the node's name. Being one script, it is atomic: a whole classroom may join at once.
NAME_SCRIPT = """
local names, named = KEYS[1], KEYS[2]
local node, wanted, kept_s = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = tonumber(redis.call('TIME')[1])
local taken, mine = {}, nil
for i = 4, #ARGV, 2 do
  if ARGV[i] ~= node then taken[ARGV[i + 1]] = true end
end
local all = redis.call('HGETALL', names)
for i = 1, #all, 2 do
  local id, name = all[i], all[i + 1]
  local last = tonumber(redis.call('ZSCORE', named, id) or 0)
  if id == node then
    mine = name
  elseif now - last > kept_s then
    redis.call('HDEL', names, id)
    redis.call('ZREM', named, id)
  else
    taken[name] = true
  end
end
local stem = string.sub(wanted, 1, 36)
local function is_variant(name)
  return string.sub(name, 1, #stem + 1) == stem .. '-' and string.match(string.sub(name, #stem + 2), '^%d%d+$')
end
local name = wanted
if mine and not taken[mine] and (mine == wanted or is_variant(mine)) then
  name = mine
else
  local number = 2
  while taken[name] do
    name = string.format('%s-%02d', stem, number)
    number = number + 1
  end
end
redis.call('HSET', names, node, name)
redis.call('ZADD', named, now, node)
return name
"""

# Parameters: what a presence key begins with, the largest record (bytes), the longest life of a record (milliseconds),
# and 1 where lives are to be checked: a record may live too long, or for ever, because its node wants it or because
# Redis' clock was set back; such a life is cut, and a node that lives writes a new one. Gives Redis' TIME, how many
# nodes ever joined, and for each that has a record its id and that record, or its size where it is too large.
# What is no string looks like no record to MGET.
LOOK_SCRIPT = """
local prefix, max_bytes, max_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ids, found = redis.call('HKEYS', KEYS[1]), {}
for first = 1, #ids, 1000 do
  local keys = {}
  for i = first, math.min(first + 999, #ids) do keys[#keys + 1] = prefix .. ids[i] end
  for i, record in ipairs(redis.call('MGET', unpack(keys))) do
    if record then
      found[#found + 1] = ids[first + i - 1]
      found[#found + 1] = #record > max_bytes and #record or record
    end
  end
  if ARGV[4] == '1' then
    for i, key in ipairs(keys) do
      local life = redis.call('PTTL', key)
      if life == -1 or life > max_ms then redis.call('PEXPIRE', key, max_ms) end
      if life ~= -2 and redis.call('TYPE', key).ok ~= 'string' then
        found[#found + 1] = ids[first + i - 1]
        found[#found + 1] = 0
      end
    end
  end
end
return {redis.call('TIME'), #ids, found}
"""
