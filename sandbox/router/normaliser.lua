-- The normaliser: finds the routing key of a request, refuses what cannot be trusted, decides who serves it and
-- re-emits every carrier for the next hop. Its rules have a twin in sandbox/carriers.py, and a property test holds
-- the two together.
--
-- What holds: a request without a key leaves as it came. A trace id with the mark whose key is neither in the table
-- nor beside its check is somebody else's. sandbox/router/routes.py writes the constants above this
-- text and delivers both with the route, so the table of keys is a Lua table that changes in one step, and the cost
-- of a look-up does not depend on how many keys there are.
--   KEYS: key -> "b" (known) or "w" (known, and nothing is forked for it); key.N -> "ip:port generation" or "x" (planted fault), N the service's number
--   SERVICES: baseline cluster -> {number = ".N", forks = cluster, host = authority outside of this machine or nil}
--   EXTRA: further carriers; PORTS: port of the keyed ingress -> key, nil for a calling pair

local MARK = "5b17"
local MEMBER = "spurline-key"
local REFUSED, FAULT, FAILED_PRECONDITION = "421", "503", "9"

local find, sub, match, gmatch, gsub = string.find, string.sub, string.match, string.gmatch, string.gsub
local format, random, concat = string.format, math.random, table.concat

local HEADER, BAGGAGE, TRACESTATE, TRACE_ID, OTHER = 1, 2, 4, 8, 16
local BITS = { header = HEADER, baggage = BAGGAGE, tracestate = TRACESTATE, ["trace-id"] = TRACE_ID, other = OTHER }
local SETS = {} -- set of carriers, as bits -> their names
for set = 0, 31 do
  local names = {}
  for _, name in ipairs({ "header", "baggage", "tracestate", "trace-id", "other" }) do
    if bit.band(set, BITS[name]) ~= 0 then names[#names + 1] = name end
  end
  SETS[set] = concat(names, ",")
end

math.randomseed(SEED)
-- Each request leaves a little garbage in a small heap: collect seldom. It stays within some megabytes.
collectgarbage("setpause", 1000)

local function is_key(text)
  return #text == 16 and not find(text, "[^0-9a-f]")
end

local function trim(text)
  return match(text, "^[ \t]*(.-)[ \t]*$")
end

local function decoded(text)
  return (gsub(text, "%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function masked(key)
  return sub(key, 1, 4) .. "…"
end

local function hex(digits)
  local parts = {}
  for i = 1, digits / 4 do parts[i] = format("%04x", random(0, 65535)) end
  return concat(parts)
end

-- A parent id: each call into C costs as much as a look-up in the table.
local function new_span()
  return format("%08x%08x", random(0, 0xffffffff), random(0, 0xffffffff))
end

-- A trace id ends in the check of its key: sandbox/keys.py says what it is made of.
local function check(key)
  return format("%04x", bit.bxor(tonumber(sub(key, 1, 4), 16), tonumber(MARK, 16)))
end

-- The key of a trace id (32 hex digits) that is ours, or nil.
local function keyed(trace)
  if sub(trace, 1, 4) ~= MARK then return end
  local key = sub(trace, 5, 20)
  if KEYS[key] or sub(trace, 29) == check(key) then return key end
end

-- The parts of the first valid traceparent in `text`, or nil: trace id, parent id.
local function traceparent(text)
  for item in gmatch(text, "[^,]+") do
    local version, trace, parent, rest = match(trim(item), "^(%x%x)%-(%x+)%-(%x+)%-(.*)$")
    if version and version ~= "ff" and #trace == 32 and #parent == 16 and not find(trace .. parent, "[^0-9a-f]")
        and find(rest, "^%x%x") and (#rest == 2 or sub(rest, 3, 3) == "-") then
      return trace, parent
    end
  end
end

-- What the carriers say: `order` lists {carrier, key}, as they are believed; `bad` lists carriers without a true key.
local function note(found, carrier, key)
  if not is_key(key) then
    found.bad[#found.bad + 1] = carrier
    return
  end
  found.order[#found.order + 1] = { carrier, key }
end

local function read_list(found, text)
  for item in gmatch(text .. ",", "([^,]*),") do note(found, "header", trim(item)) end
end

local function read_members(found, carrier, text, properties)
  for item in gmatch(text, "[^,]+") do
    local member = item
    if properties then member = match(item, "^[^;]*") end
    local name, value = match(member, "^([^=]*)=(.*)$")
    if trim(name or member) == MEMBER then
      value = trim(value or "")
      if properties then value = decoded(value) end
      note(found, carrier, value)
    end
  end
end

local function read_other(found, text)
  for item in gmatch(text, "[^,]+") do
    item = trim(item)
    if is_key(item) then note(found, "other", item) end
    if #item == 36 then item = gsub(item, "-", "") end
    for run in gmatch(item, "[0-9a-f]+") do
      local key = #run == 32 and keyed(run)
      if key then note(found, "other", key) end
    end
  end
end

-- The slow and complete way to read what the carriers say; nil where none holds anything.
local function read(headers, own, baggage, state, parent)
  local found = { order = {}, bad = {} }
  if own then read_list(found, own) end
  if baggage and find(baggage, MEMBER, 1, true) then read_members(found, "baggage", baggage, true) end
  if state and find(state, MEMBER, 1, true) then read_members(found, "tracestate", state, false) end
  if parent and find(parent, MARK, 1, true) then
    local trace = traceparent(parent)
    local key = trace and keyed(trace)
    if key then note(found, "trace-id", key) end
  end
  for i = 1, #EXTRA do
    local value = headers:get(EXTRA[i])
    if value then read_other(found, value) end
  end
  if #found.order > 0 or #found.bad > 0 then return found end
end

-- The quick way, for a known key and carriers in just the form in which this router emits them: key and set, or nil
-- to look closely.
local function glance(own, baggage, state, parent)
  local key, set, at = nil, 0, nil
  if own then
    key, set = own, HEADER
  end
  if baggage then
    at = find(baggage, MEMBER, 1, true)
    if at then
      if at > 1 and sub(baggage, at - 1, at - 1) ~= "," then return end
      key = key or sub(baggage, at + 13)
      if sub(baggage, at + 12) ~= "=" .. key then return end
      set = set + BAGGAGE
    end
  end
  if state and find(state, MEMBER, 1, true) then
    key = key or sub(state, 14, 29)
    if sub(state, 1, 29) ~= MEMBER .. "=" .. key or find(state, MEMBER, 2, true) then return end
    if #state > 29 and sub(state, 30, 30) ~= "," then return end
    set = set + TRACESTATE
  end
  if parent and find(parent, MARK, 1, true) then
    if #parent ~= 55 or not find(parent, "^00%-[0-9a-f]+%-[0-9a-f]+%-%x%x$") or sub(parent, 36, 36) ~= "-" then return end
    if sub(parent, 4, 7) == MARK then
      key = key or sub(parent, 8, 23)
      if sub(parent, 8, 23) ~= key then return end
      set = set + TRACE_ID
    end
  end
  local known = KEYS[key or ""]
  if known == "b" or known == "w" then return key, set end
end

local function set_of(order)
  local set = 0
  for i = 1, #order do set = bit.bor(set, BITS[order[i][1]] or 0) end
  return set
end

local function quoted(list)
  return '["' .. concat(list, '","') .. '"]'
end

local function order_of(set, key)
  local order = {}
  for name in gmatch(SETS[set or 0], "[^,]+") do order[#order + 1] = { name, key } end
  return order
end

local function record(handle, keys, set, served)
  handle:streamInfo():dynamicMetadata():set("spurline", "r", keys .. "|" .. SETS[set] .. "|" .. served)
end

-- Envoy turns the answer to a gRPC call into a status of its own, which would be UNKNOWN for 421: say what it is.
local function answer(handle, status, body)
  local headers = { [":status"] = status, ["content-type"] = "application/json" }
  if status == REFUSED and find(handle:headers():get("content-type") or "", "application/grpc", 1, true) == 1 then
    headers = { [":status"] = status, ["grpc-status"] = FAILED_PRECONDITION }
  end
  handle:respond(headers, body)
end

local function refuse(handle, found, body)
  local keys, known = {}, {}
  for i = 1, #found.order do
    local key = found.order[i][2]
    if not known[key] then
      known[key] = true
      keys[#keys + 1] = key
    end
  end
  record(handle, concat(keys, ","), set_of(found.order), "r")
  answer(handle, REFUSED, body)
end

local function refuse_malformed(handle, found)
  refuse(handle, found, '{"error":"malformed routing key","carriers":' .. quoted(found.bad)
    .. ',"hint":"a routing key is 16 lower-case hex digits"}')
end

local function refuse_disagreement(handle, found)
  local said = {}
  for i = 1, #found.order do
    said[i] = '{"carrier":"' .. found.order[i][1] .. '","key":"' .. masked(found.order[i][2]) .. '"}'
  end
  refuse(handle, found, '{"error":"routing keys disagree","carriers":[' .. concat(said, ",")
    .. '],"hint":"send one routing key; every carrier of a request must hold the same"}')
end

local function refuse_unknown(handle, key, set)
  record(handle, key, set, "r")
  answer(handle, REFUSED, '{"error":"unknown routing key","key":"' .. masked(key)
    .. '","hint":"the sandbox has expired, was deleted or never was; create it again and use its new key"}')
end

-- The carriers of the next hop, each only touched where it does not hold the key yet.
local function emit(headers, key, set, own, baggage, state, parent)
  if own ~= key then headers:replace("x-spurline-key", key) end
  if bit.band(set, BAGGAGE) == 0 then
    local member = MEMBER .. "=" .. key
    if baggage and trim(baggage) ~= "" then member = baggage .. "," .. member end
    headers:replace("baggage", member)
  end
  if bit.band(set, TRACESTATE) == 0 then
    local member = MEMBER .. "=" .. key
    if state and trim(state) ~= "" then member = member .. "," .. state end
    headers:replace("tracestate", member)
  end
  local traced = bit.band(set, TRACE_ID) ~= 0
  if traced and #EXTRA == 0 then return end
  local trace, span
  if parent then trace, span = traceparent(parent) end
  if not traced then
    local digits = trace and sub(trace, 21, 28) or format("%08x", random(0, 0xffffffff))
    trace, span = MARK .. key .. digits .. check(key), span or new_span()
    headers:replace("traceparent", "00-" .. trace .. "-" .. span .. "-01")
  end
  for i = 1, #EXTRA do
    local other = { order = {}, bad = {} }
    read_other(other, headers:get(EXTRA[i]) or "")
    if #other.order == 0 then
      headers:replace(EXTRA[i], EXTRA[i] == "b3" and trace .. "-" .. span .. "-1" or trace)
    end
  end
end

local function without(text, properties)
  local kept = {}
  for item in gmatch(text, "[^,]+") do
    local member = properties and match(item, "^[^;]*") or item
    if trim(match(member, "^([^=]*)=") or member) ~= MEMBER then kept[#kept + 1] = item end
  end
  return concat(kept, ",")
end

local function keep(headers, name, text)
  if text == "" then headers:remove(name) else headers:replace(name, text) end
end

-- Out of the system: nothing of the key leaves.
local function strip(headers, baggage, state, parent)
  headers:remove("x-spurline-key")
  if baggage then keep(headers, "baggage", without(baggage, true)) end
  if state then keep(headers, "tracestate", without(state, false)) end
  if parent then
    local trace, span = traceparent(parent)
    if trace and keyed(trace) then
      headers:replace("traceparent", "00-" .. "0000" .. hex(28) .. "-" .. span .. "-01")
    end
  end
  for i = 1, #EXTRA do
    local other = { order = {}, bad = {} }
    read_other(other, headers:get(EXTRA[i]) or "")
    if #other.order > 0 then headers:remove(EXTRA[i]) end
  end
end

-- The one key that all carriers agree on; nil where the request was refused.
local function settle(handle, found)
  if #found.bad > 0 then return refuse_malformed(handle, found) end
  local key = found.order[1][2]
  for i = 2, #found.order do
    if found.order[i][2] ~= key then return refuse_disagreement(handle, found) end
  end
  return key
end

-- What nobody but the baseline answers is captured whole, to be held beside the answers of forks; not more than so
-- much in a second, or a load test would fill the disk.
local WATCHED_A_SECOND = 100
local second, watched = 0, 0
local function watch(headers)
  local now = os.time()
  if now ~= second then second, watched = now, 0 end
  watched = watched + 1
  if watched <= WATCHED_A_SECOND then headers:replace("x-spurline-watch", "1") end
end

-- Who serves a key that is known: a fork, or the baseline, which is where the request goes already.
local function route(handle, headers, service, key, entry, set)
  if entry == "w" then watch(headers) end
  if entry == "b" or entry == "w" then return record(handle, key, set, "b") end
  local space = find(entry, " ", 1, true)
  handle:streamInfo():dynamicMetadata():set("spurline", "d", sub(entry, 1, space - 1))
  headers:replace("x-spurline-cluster", service.forks)
  handle:clearRouteCache()
  record(handle, key, set, "f" .. sub(entry, space + 1))
end

-- Key and set of carriers of a request by the ingress: what the client said, and the key of the slot it came in by.
local function enter(handle, headers, key, set, found)
  local own = PORTS[headers:get("x-spurline-slot") or ""]
  if not own then
    return refuse(handle, found or { order = order_of(set, key) },
      '{"error":"no sandbox at this address","hint":"it has expired or was deleted; create it again"}')
  end
  if key == own then return key, set end
  if not key and not found then return own, 0 end
  found = found or { order = order_of(set, key), bad = {} }
  set = set_of(found.order)
  table.insert(found.order, 1, { "ingress", own })
  return settle(handle, found), set
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local own, baggage = headers:get("x-spurline-key"), headers:get("baggage")
  local state, parent = headers:get("tracestate"), headers:get("traceparent")
  local key, set, found
  if #EXTRA == 0 then key, set = glance(own, baggage, state, parent) end
  if not key then found = read(headers, own, baggage, state, parent) end
  local service = SERVICES[headers:get("x-spurline-cluster")]
  if service.host then headers:replace(":authority", service.host) end
  if PORTS then
    key, set = enter(handle, headers, key, set, found)
  elseif found then
    key, set = settle(handle, found), set_of(found.order)
  elseif not key then
    return
  end
  local entry = KEYS[key .. service.number] or KEYS[key]
  if not entry and REFUSE_UNKNOWN then return refuse_unknown(handle, key, set) end
  if entry == "x" then
    record(handle, key, set, "x")
    return answer(handle, FAULT, '{"error":"planted fault","hint":"the router answers for this service, on purpose"}')
  end
  if service.host then
    strip(headers, baggage, state, parent)
  elseif entry then
    emit(headers, key, set, own, baggage, state, parent)
  end
  -- A key that nobody has is as good as none: whoever sent it has lost the one it was called with.
  route(handle, headers, service, entry and key or "", entry or "b", set)
end
