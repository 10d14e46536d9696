-- A review of Airlock in Neovim (0.7 or later). Copy this directory to ~/.local/share/nvim/site/pack/airlock/start/airlock, then:
--
--   :AirlockReview [NAME]   review a sandbox: in the list of hunks, a accepts, x rejects, u decides nothing, c comments,
--                           A accepts a hunk of high risk, <CR> opens your file there, w applies, R reads the list again, q leaves
--
-- It speaks JSON-RPC with `airlock review --json-rpc`. All that an agent wrote is shown as text, and is never a command.
local namespace = vim.api.nvim_create_namespace("airlock")
vim.cmd("hi default AirlockAdded ctermfg=2 guifg=#7fb069 | hi default AirlockRemoved ctermfg=1 guifg=#e06c75")
local marks = { accepted = "[+]", rejected = "[x]", undecided = "[ ]", edited = "[e]" }
local function say(text, level) vim.notify("airlock: " .. text, level or vim.log.levels.INFO) end
-- A buffer has no line breaks in a line, and no NUL. The editor shows the other control characters itself.
local function plain(text) return (text:gsub("\n", "^J"):gsub("%z", "^@")) end
local Review = {} -- The review of a sandbox in a buffer.
Review.__index = Review

-- Sends a request. Calls `done` with the result, or `failed`. An error of Airlock is shown with its details and hints.
function Review:request(method, params, done, failed)
  self.next_id = self.next_id + 1
  if not self.job then return say("the review has ended", vim.log.levels.ERROR) end
  self.waiting[self.next_id] = { done = done or function() end, failed = failed or function() end }
  local message = { jsonrpc = "2.0", id = self.next_id, method = method, params = params or vim.empty_dict() }
  vim.fn.chansend(self.job, vim.json.encode(message) .. "\n")
end

function Review:receive(message)
  local waiting = self.waiting[message.id]
  self.waiting[message.id] = nil
  if not (waiting and vim.api.nvim_buf_is_valid(self.buffer)) then return end
  if message.error then
    local data, text = message.error.data or {}, message.error.message
    local more = text:find("requires confirmation", 1, true) and { "A accepts it" } or { data.details or {}, data.hints or {} }
    say(table.concat(vim.tbl_flatten({ text, more }), "\n"), vim.log.levels.ERROR)
    waiting.failed()
  else
    waiting.done(message.result)
  end
end

-- Lines arrive in pieces: the first continues the last one.
function Review:read(pieces)
  table.insert(self.rest, pieces[1])
  for at = 2, #pieces do
    local line = table.concat(self.rest)
    self.rest = { pieces[at] }
    self:receive(vim.json.decode(line, { luanil = { object = true, array = true } }))
  end
end

-- A long line would make the editor slow, so it has several rows. Nothing is left out: what is accepted can be read.
local function add_row(rows, text, hunk, line, group)
  text = plain(text)
  local from = 1
  repeat
    local to = from + 999
    while (text:byte(to + 1) or 0) >= 0x80 and text:byte(to + 1) < 0xc0 do to = to - 1 end
    local piece = (from > 1 and "    ~" or "") .. text:sub(from, to)
    table.insert(rows, { text = piece, hunk = hunk, line = line, group = group })
    from = to + 1
  until from > #text
end

local function add_hunk(rows, file, hunk)
  local mark = marks[hunk.decision] or "[~]"
  local title = ("  %s %s"):format(mark, hunk.kind)
  if hunk.new_start then
    title = ("  %s @@ -%d,%d +%d,%d @@"):format(mark, hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines)
  end
  local target = { id = hunk.id, path = file.path, is_truncated = hunk.is_truncated }
  add_row(rows, title, target, hunk.new_start, "Comment")
  for _, line in ipairs(hunk.lines or {}) do
    local text = (line.kind == "added" and "    +" or "    -") .. line.text .. (line.no_newline and "  (no line break)" or "")
    add_row(rows, text, target, line.number, line.kind == "added" and "AirlockAdded" or "AirlockRemoved")
  end
  if hunk.is_truncated then
    add_row(rows, "    (more lines: decide with `airlock review`)", target, hunk.new_start, "WarningMsg")
  end
  for _, comment in ipairs(hunk.comments or {}) do
    add_row(rows, "    > " .. comment.text:gsub("\n", " "), target, hunk.new_start, "Comment")
  end
end

local function add_file(rows, file)
  local name = file.renamed_from and (file.renamed_from .. " -> " .. file.path) or file.path
  local title = file.change .. "  " .. name .. (file.severity and "  " .. file.severity or "")
  if file.target then title = title .. "  symlink to " .. file.target end
  if file.old and file.new and file.old.mode ~= file.new.mode then title = title .. "  " .. file.old.mode .. " -> " .. file.new.mode end
  add_row(rows, title, nil, nil, "Title")
  for _, finding in ipairs(file.findings) do
    add_row(rows, ("  %s: %s"):format(finding.severity, finding.reason), nil, nil, "WarningMsg")
  end
  for _, hunk in ipairs(file.hunks) do add_hunk(rows, file, hunk) end
end

function Review:show(files)
  local rows = {}
  for _, file in ipairs(files) do add_file(rows, file) end
  self.rows = rows
  vim.bo[self.buffer].modifiable = true
  vim.api.nvim_buf_set_lines(self.buffer, 0, -1, false, vim.tbl_map(function(row) return row.text end, rows))
  vim.bo[self.buffer].modifiable = false
  vim.api.nvim_buf_clear_namespace(self.buffer, namespace, 0, -1)
  for at, row in ipairs(rows) do
    vim.api.nvim_buf_add_highlight(self.buffer, namespace, row.group, at - 1, 0, -1)
  end
end

-- Lists the files, then the hunks of each. The last reply shows all.
function Review:refresh()
  self:request("list", nil, function(listing)
    local files = {}
    if #listing.files == 0 then self:show(files) end
    for _, file in ipairs(listing.files) do
      local function add(hunks)
        table.insert(files, hunks or file)
        if #files == #listing.files then self:show(files) end
      end
      self:request("hunks", { path = file.path, path_bytes = file.path_bytes }, add, add)
    end
  end)
end

-- Calls `done` with the row at the cursor if it belongs to a hunk.
function Review:with_hunk(done)
  local row = self.rows[vim.api.nvim_win_get_cursor(0)[1]]
  if row and row.hunk then done(row) else say("there is no hunk on this line") end
end

function Review:decide(decision, allow_risky)
  self:with_hunk(function(row)
    if decision == "accepted" and row.hunk.is_truncated then
      return say("not all of its lines are shown: decide with `airlock review`")
    end
    local hunks = { { id = row.hunk.id, decision = decision } }
    self:request("decide", { hunks = hunks, allow_risky = allow_risky }, function() self:refresh() end)
  end)
end

function Review:comment()
  self:with_hunk(function(row)
    vim.ui.input({ prompt = "Comment: " }, function(text)
      if text then self:request("comment", { id = row.hunk.id, text = text }, function() self:refresh() end) end
    end)
  end)
end

-- Opens the user's file if there is one, without the command line, which would interpret its name.
function Review:open_file()
  self:with_hunk(function(row)
    local path = self.root .. "/" .. row.hunk.path
    local found = vim.loop.fs_lstat(path)
    if not (found and found.type == "file") then return say("you have no such file: " .. plain(row.hunk.path)) end
    vim.cmd("aboveleft split")
    vim.api.nvim_win_set_buf(0, vim.fn.bufadd(path))
    vim.fn.cursor(math.max(row.line or 1, 1), 1)
  end)
end

function Review:apply()
  self:request("apply", { dry_run = true }, function(plan)
    local lines = vim.tbl_map(function(file) return plain(file.outcome .. "  " .. file.path) end, plan.files)
    if vim.fn.confirm(table.concat(lines, "\n") .. "\nApply?", "&Yes\n&No", 2) == 1 then
      self:request("apply", nil, function(outcome)
        local applied = ("applied: %d of %d files"):format(outcome.applied, outcome.of)
        say(outcome.status == 0 and applied or "conflicts; nothing was written")
        vim.cmd("checktime")
        self:refresh()
      end)
    end
  end)
end

local function start(command)
  local self = setmetatable({ rows = {}, waiting = {}, next_id = 0, rest = {} }, Review)
  self.job = vim.fn.jobstart(vim.list_extend({ "airlock", "review", "--json-rpc" }, command.fargs), {
    on_stdout = function(_, pieces) self:read(pieces) end,
    on_stderr = function(_, pieces)
      if pieces[1] ~= "" then say(plain(table.concat(pieces, " ")), vim.log.levels.WARN) end
    end,
    on_exit = function() self.job = nil end,
  })
  self.root = vim.fn.systemlist({ "git", "rev-parse", "--show-toplevel" })[1]
  vim.cmd("botright new")
  self.buffer = vim.api.nvim_get_current_buf()
  vim.bo.buftype, vim.bo.bufhidden, vim.bo.swapfile = "nofile", "wipe", false
  vim.wo.statusline = "airlock review " .. (command.args:gsub("%%", "%%%%")) .. "   a A x u: decide  c: comment  w: apply  q: leave"
  local function map(key, action) vim.keymap.set("n", key, action, { buffer = self.buffer, nowait = true }) end
  for key, decision in pairs({ a = "accepted", A = "accepted", x = "rejected", u = "undecided" }) do
    map(key, function() self:decide(decision, key == "A") end)
  end
  map("c", function() self:comment() end)
  map("w", function() self:apply() end)
  map("R", function() self:refresh() end)
  map("<CR>", function() self:open_file() end)
  map("q", function() vim.cmd("bwipeout") end)
  local function close() if self.job then vim.fn.chanclose(self.job, "stdin") end end
  vim.api.nvim_create_autocmd("BufWipeout", { buffer = self.buffer, callback = close })
  self:refresh()
end
vim.api.nvim_create_user_command("AirlockReview", start, { nargs = "?" })
