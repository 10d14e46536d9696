-- A review of Airlock in Neovim (0.7 or later). Copy this directory to ~/.local/share/nvim/site/pack/airlock/start/airlock, then:
--
--   :AirlockReview [NAME]   review a sandbox: in the list of hunks, a accepts, x rejects, u decides nothing, c comments,
--                           A accepts a hunk of high risk, <CR> opens your file there, w applies, R reads the list again, q leaves
--   :AirlockQuickfix [NAME] put hunks and findings into the quickfix list
--
-- It speaks JSON-RPC with `airlock review --json-rpc`. All that an agent wrote is shown as text, and is never a command.
local marks = { accepted = "[+]", rejected = "[x]", undecided = "[ ]", edited = "[e]" }
local namespace = vim.api.nvim_create_namespace("airlock")

local function say(text, level)
  vim.notify("airlock: " .. text, level or vim.log.levels.INFO)
end

-- A buffer has no line breaks in a line, and no NUL. A very long line would make the editor slow.
local function plain(text)
  text = text:gsub("\n", ""):gsub("%z", "^@")
  return #text > 2000 and text:sub(1, 2000) .. " …" or text
end

-- The review of a sandbox in a buffer: job, buffer, root, rows, waiting, next_id, rest.
local Review = {}
Review.__index = Review

-- Sends a request. Calls `done` with the result. An error of Airlock is shown with its details and hints.
function Review:request(method, params, done)
  self.next_id = self.next_id + 1
  self.waiting[self.next_id] = done or function() end
  local message = { jsonrpc = "2.0", id = self.next_id, method = method, params = params or vim.empty_dict() }
  vim.fn.chansend(self.job, vim.json.encode(message) .. "\n")
end

function Review:receive(message)
  local done = self.waiting[message.id]
  self.waiting[message.id] = nil
  if message.error then
    local more = message.error.data or {}
    local lines = { message.error.message }
    vim.list_extend(lines, more.details or {})
    vim.list_extend(lines, more.hints or {})
    say(table.concat(lines, "\n"), vim.log.levels.ERROR)
  elseif done and vim.api.nvim_buf_is_valid(self.buffer) then
    done(message.result)
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

local function add_row(rows, text, hunk, line, group)
  table.insert(rows, { text = plain(text), hunk = hunk, line = line, group = group })
end

local function hunk_rows(rows, file, hunk)
  local mark = marks[hunk.decision] or "[~]"
  local title = ("  %s %s"):format(mark, hunk.kind)
  if hunk.new_start then
    title = ("  %s @@ -%d,%d +%d,%d @@"):format(mark, hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines)
  end
  local target = { id = hunk.id, path = file.path }
  add_row(rows, title, target, hunk.new_start, "Comment")
  for _, line in ipairs(hunk.lines or {}) do
    local sign = line.kind == "added" and "+" or "-"
    local group = line.kind == "added" and "DiffAdd" or "DiffDelete"
    add_row(rows, "    " .. sign .. line.text, target, line.number, group)
  end
  for _, comment in ipairs(hunk.comments or {}) do
    add_row(rows, "    > " .. comment.text:gsub("\n", " "), target, hunk.new_start, "Comment")
  end
end

function Review:show(listing)
  local rows = {}
  for _, file in ipairs(listing.files) do
    local risk = file.severity and ("  " .. file.severity) or ""
    local name = file.renamed_from and (file.renamed_from .. " -> " .. file.path) or file.path
    add_row(rows, ("%s  %s%s"):format(file.change, name, risk), nil, nil, "Title")
    for _, finding in ipairs(file.findings) do
      add_row(rows, ("  %s: %s"):format(finding.severity, finding.reason), nil, nil, "WarningMsg")
    end
    for _, hunk in ipairs(file.hunks) do
      hunk_rows(rows, file, hunk)
    end
  end
  self.rows = rows
  vim.bo[self.buffer].modifiable = true
  vim.api.nvim_buf_set_lines(self.buffer, 0, -1, false, vim.tbl_map(function(row) return row.text end, rows))
  vim.bo[self.buffer].modifiable = false
  vim.api.nvim_buf_clear_namespace(self.buffer, namespace, 0, -1)
  for at, row in ipairs(rows) do
    vim.api.nvim_buf_add_highlight(self.buffer, namespace, row.group, at - 1, 0, -1)
  end
end

function Review:refresh()
  self:request("list", { lines = true }, function(listing) self:show(listing) end)
end

-- Calls `done` with the row at the cursor, if it belongs to a hunk.
function Review:with_hunk(done)
  local row = self.rows[vim.api.nvim_win_get_cursor(0)[1]]
  if row and row.hunk then done(row) else say("there is no hunk on this line") end
end

function Review:decide(decision, allow_risky)
  self:with_hunk(function(row)
    local hunks = { { id = row.hunk.id, decision = decision } }
    self:request("decide", { hunks = hunks, allow_risky = allow_risky or false }, function() self:refresh() end)
  end)
end

function Review:comment()
  self:with_hunk(function(row)
    vim.ui.input({ prompt = "Comment: " }, function(text)
      if text and text ~= "" then
        self:request("comment", { id = row.hunk.id, text = text }, function() self:refresh() end)
      end
    end)
  end)
end

-- Opens the user's file, without the command line, which would interpret its name.
function Review:open_file()
  self:with_hunk(function(row)
    vim.cmd("aboveleft split")
    vim.api.nvim_win_set_buf(0, vim.fn.bufadd(self.root .. "/" .. row.hunk.path))
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
  local errors = {}
  self.job = vim.fn.jobstart(vim.list_extend({ "airlock", "review", "--json-rpc" }, command.fargs), {
    on_stdout = function(_, pieces) self:read(pieces) end,
    on_stderr = function(_, pieces) vim.list_extend(errors, pieces) end,
    on_exit = function(_, status)
      if status ~= 0 then say(table.concat(errors, "\n"), vim.log.levels.ERROR) end
    end,
  })
  self.root = vim.fn.systemlist({ "git", "rev-parse", "--show-toplevel" })[1]
  vim.cmd("botright new")
  self.buffer = vim.api.nvim_get_current_buf()
  vim.bo.buftype, vim.bo.bufhidden, vim.bo.swapfile = "nofile", "wipe", false
  local keys = {
    a = function() self:decide("accepted") end,
    A = function() self:decide("accepted", true) end,
    x = function() self:decide("rejected") end,
    u = function() self:decide("undecided") end,
    c = function() self:comment() end,
    w = function() self:apply() end,
    R = function() self:refresh() end,
    ["<CR>"] = function() self:open_file() end,
    q = function() vim.cmd("bwipeout") end,
  }
  for key, action in pairs(keys) do
    vim.keymap.set("n", key, action, { buffer = self.buffer, nowait = true })
  end
  local close = function() vim.fn.chanclose(self.job, "stdin") end
  vim.api.nvim_create_autocmd("BufWipeout", { buffer = self.buffer, callback = close })
  self:refresh()
end

local function quickfix(command)
  local argv = vim.list_extend({ "airlock", "diff", "--format", "quickfix" }, command.fargs)
  vim.fn.setqflist({}, " ", { title = "airlock", lines = vim.fn.systemlist(argv), efm = "%f:%l: %m" })
  vim.cmd("copen")
end

vim.api.nvim_create_user_command("AirlockReview", start, { nargs = "?" })
vim.api.nvim_create_user_command("AirlockQuickfix", quickfix, { nargs = "?" })
