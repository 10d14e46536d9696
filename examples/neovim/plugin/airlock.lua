-- A review of Airlock in Neovim (0.7 or later). Copy this directory to ~/.local/share/nvim/site/pack/airlock/start/airlock, then:
--
--   :AirlockReview [NAME]   review a sandbox: in the list of hunks, a accepts, x rejects, u decides nothing, c comments,
--                           A accepts a hunk of high risk, <CR> opens your file there, w applies, R reads the list again, q leaves
--   :AirlockQuickfix [NAME] put hunks and findings into the quickfix list
--
-- It speaks JSON-RPC with `airlock review --json-rpc`. All that an agent wrote is shown as text, and is never a command.
local marks = { accepted = "[+]", rejected = "[x]", undecided = "[ ]", edited = "[e]" }
local namespace = vim.api.nvim_create_namespace("airlock")
local review -- The current one: job, buffer, rows, waiting, next_id, rest, changeset.

local function say(text, level)
  vim.notify("airlock: " .. text, level or vim.log.levels.INFO)
end

-- Sends a request. Calls `done` with the result. An error of Airlock is shown with its details and hints.
local function request(method, params, done)
  review.next_id = review.next_id + 1
  review.waiting[review.next_id] = done or function() end
  local message = { jsonrpc = "2.0", id = review.next_id, method = method, params = params or vim.empty_dict() }
  vim.fn.chansend(review.job, vim.json.encode(message) .. "\n")
end

local function receive(message)
  local done = review.waiting[message.id]
  review.waiting[message.id] = nil
  if message.error then
    local more = message.error.data or {}
    local lines = { message.error.message }
    vim.list_extend(lines, more.details or {})
    vim.list_extend(lines, more.hints or {})
    return say(table.concat(lines, "\n"), vim.log.levels.ERROR)
  end
  if done then
    done(message.result)
  end
end

-- Lines arrive in pieces: the first continues the last one.
local function on_stdout(_, pieces)
  review.rest = review.rest .. pieces[1]
  for at = 2, #pieces do
    local line = review.rest
    review.rest = pieces[at]
    receive(vim.json.decode(line, { luanil = { object = true, array = true } }))
  end
end

-- A buffer has no line breaks in a line, and no NUL.
local function plain(text)
  return (text:gsub("\n", ""):gsub("%z", "^@"))
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
  local target = { id = hunk.id, path = file.path, decision = hunk.decision }
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

local function show(listing)
  local rows = {}
  for _, file in ipairs(listing.files) do
    local risk = file.severity and ("  " .. file.severity) or ""
    add_row(rows, ("%s  %s%s"):format(file.change, file.path, risk), nil, nil, "Title")
    for _, finding in ipairs(file.findings) do
      add_row(rows, ("  %s: %s"):format(finding.severity, finding.reason), nil, nil, "WarningMsg")
    end
    for _, hunk in ipairs(file.hunks) do
      hunk_rows(rows, file, hunk)
    end
  end
  review.rows = rows
  local buffer = review.buffer
  vim.bo[buffer].modifiable = true
  vim.api.nvim_buf_set_lines(buffer, 0, -1, false, vim.tbl_map(function(row) return row.text end, rows))
  vim.bo[buffer].modifiable = false
  vim.api.nvim_buf_clear_namespace(buffer, namespace, 0, -1)
  for at, row in ipairs(rows) do
    vim.api.nvim_buf_add_highlight(buffer, namespace, row.group, at - 1, 0, -1)
  end
end

local function refresh()
  request("list", { lines = true }, show)
end

local function current_row()
  return review.rows[vim.api.nvim_win_get_cursor(0)[1]]
end

local function decide(decision, allow_risky)
  local row = current_row()
  if not (row and row.hunk) then
    return say("there is no hunk on this line")
  end
  request("decide", { hunks = { { id = row.hunk.id, decision = decision } }, allow_risky = allow_risky }, refresh)
end

local function comment()
  local row = current_row()
  if not (row and row.hunk) then
    return say("there is no hunk on this line")
  end
  vim.ui.input({ prompt = "Comment: " }, function(text)
    if text and text ~= "" then
      request("comment", { id = row.hunk.id, text = text }, refresh)
    end
  end)
end

local function open_file()
  local row = current_row()
  if row and row.hunk then
    vim.cmd("aboveleft split")
    vim.api.nvim_win_set_buf(0, vim.fn.bufadd(review.root .. "/" .. row.hunk.path))
    vim.fn.cursor(math.max(row.line or 1, 1), 1)
  end
end

local function apply()
  request("apply", { dry_run = true }, function(plan)
    local lines = vim.tbl_map(function(file) return plain(file.outcome .. "  " .. file.path) end, plan.files)
    if vim.fn.confirm(table.concat(lines, "\n") .. "\nApply?", "&Yes\n&No", 2) == 1 then
      request("apply", nil, function(outcome)
        say(outcome.status == 0 and ("applied " .. outcome.applied .. " files") or "conflicts; nothing was written")
        vim.cmd("checktime")
        refresh()
      end)
    end
  end)
end

local function start(command)
  local root = vim.fn.systemlist({ "git", "rev-parse", "--show-toplevel" })[1]
  local argv = vim.list_extend({ "airlock", "review", "--json-rpc" }, command.fargs)
  local errors = {}
  local job = vim.fn.jobstart(argv, {
    on_stdout = on_stdout,
    on_stderr = function(_, pieces) vim.list_extend(errors, pieces) end,
    on_exit = function(_, status)
      if status ~= 0 then
        say(table.concat(errors, "\n"), vim.log.levels.ERROR)
      end
    end,
  })
  if job <= 0 then
    return say("`airlock` is not on the PATH", vim.log.levels.ERROR)
  end
  vim.cmd("botright new")
  local buffer = vim.api.nvim_get_current_buf()
  vim.bo[buffer].buftype, vim.bo[buffer].bufhidden, vim.bo[buffer].swapfile = "nofile", "wipe", false
  review = { job = job, buffer = buffer, root = root, rows = {}, waiting = {}, next_id = 0, rest = "" }
  local keys = {
    a = function() decide("accepted") end,
    A = function() decide("accepted", true) end,
    x = function() decide("rejected") end,
    u = function() decide("undecided") end,
    c = comment, w = apply, R = refresh, ["<CR>"] = open_file,
    q = function() vim.cmd("bwipeout") end,
  }
  for key, action in pairs(keys) do
    vim.keymap.set("n", key, action, { buffer = buffer, nowait = true })
  end
  vim.api.nvim_create_autocmd("BufWipeout", { buffer = buffer, callback = function() vim.fn.chanclose(job, "stdin") end })
  refresh()
end

local function quickfix(command)
  local argv = vim.list_extend({ "airlock", "diff", "--format", "quickfix" }, command.fargs)
  vim.fn.setqflist({}, " ", { title = "airlock", lines = vim.fn.systemlist(argv), efm = "%f:%l: %m" })
  vim.cmd("copen")
end

vim.api.nvim_create_user_command("AirlockReview", start, { nargs = "?" })
vim.api.nvim_create_user_command("AirlockQuickfix", quickfix, { nargs = "?" })
