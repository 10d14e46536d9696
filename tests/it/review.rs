//! Tests of `review` and `apply`: hunks, rounds, conflicts, unusual names and kinds of files.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{AIRLOCK, CommandOutput, TestRepo};
use crate::terminal::Terminal;

/// Returns the IDs of the hunks of a file.
fn hunk_ids(diff: &Value, path: &str) -> Vec<String> {
    let files = diff["files"].as_array().expect("a list");
    let file = files.iter().find(|f| f["path"] == path).expect("the file is in the diff");
    file["hunks"].as_array().expect("a list").iter().map(|b| b["id"].as_str().expect("an id").to_owned()).collect()
}

/// Returns a text of 30 numbered lines.
fn numbered_lines() -> String {
    (1..=30).map(|n| format!("line {n}\n")).collect()
}

#[test]
fn apply_by_hunk_id_adds_up_over_rounds() {
    let repo = TestRepo::new();
    repo.write("n.txt", numbered_lines());
    repo.commit();
    repo.sandbox("b", "sed -i -e 's/^line 3$/three/' -e 's/^line 15$/fifteen/' -e 's/^line 28$/twenty-eight/' n.txt")
        .ok();
    let hunks = hunk_ids(&repo.diff("b"), "n.txt");
    assert_eq!(hunks.len(), 3);
    repo.airlock(&["apply", "b", "--accept-id", &hunks[1]]).ok();
    assert_eq!(repo.read("n.txt"), numbered_lines().replace("line 15\n", "fifteen\n"));
    repo.airlock(&["apply", "b", "--accept-id", &hunks[0], "--accept-id", &hunks[2]]).ok();
    let all = numbered_lines().replace("line 15\n", "fifteen\n").replace("line 3\n", "three\n");
    assert_eq!(repo.read("n.txt"), all.replace("line 28\n", "twenty-eight\n"));
    assert_snapshot!(repo.airlock(&["apply", "b", "--accept-all"]), @"
    status: 0
    ----- stdout -----
      unchanged  n.txt
    ----- stderr -----
    airlock: 0 of 1 file applied, 1 unchanged. All changes are decided. Next: airlock resume b -- COMMAND, or airlock rm b
    ");
    // The user reverts the file: hunks that were applied before are not applied again.
    repo.git(&["checkout", "-q", "n.txt"]);
    repo.airlock(&["apply", "b", "--accept-id", &hunks[0]]).ok();
    assert_eq!(repo.read("n.txt"), numbered_lines().replace("line 3\n", "three\n"));
    assert_snapshot!(repo.airlock(&["apply", "b", "--accept-id", "0123456789abcdef"]), @"
    status: 5
    ----- stderr -----
    error: this changeset has no hunk `0123456789abcdef`
    hint: to list the current IDs, run `airlock diff b --json`
    ");
}

#[test]
fn sandbox_is_decided_by_its_last_review() {
    let repo = TestRepo::new();
    repo.changeset("d", "echo more >> a.txt; echo new > new.txt");
    assert_eq!(repo.status("d"), "collected");
    repo.airlock_with_input(&["review", "d", "--plain"], "n\nq\n").ok();
    assert_eq!(repo.status("d"), "collected");
    repo.airlock_with_input(&["review", "d", "--plain"], "n\n").ok();
    assert_eq!(repo.status("d"), "decided");
    // An accepted change is decided when it is applied.
    repo.airlock_with_input(&["review", "d", "--plain"], "g a.txt\ny\nq\n").ok();
    assert_eq!(repo.status("d"), "collected");
    repo.airlock(&["apply", "d"]).ok();
    assert_eq!(repo.status("d"), "decided");
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.status("d"), "collected");
    // Decisions can also be imported.
    repo.airlock(&["review", "d", "--export", "../decisions.json"]).ok();
    let file = repo.path.with_file_name("decisions.json");
    let decisions = std::fs::read_to_string(&file).expect("read").replace("\"accepted\"", "\"rejected\"");
    std::fs::write(&file, decisions).expect("written");
    repo.airlock(&["review", "d", "--import", "../decisions.json"]).ok();
    assert_eq!(repo.status("d"), "decided");
}

#[test]
fn apply_writes_nothing_if_a_file_conflicts() {
    let repo = TestRepo::new();
    repo.changeset("x", "echo x >> a.txt; echo y >> dir/keep.txt; echo z > new.txt");
    repo.write("a.txt", "mine\n");
    repo.write("new.txt", "mine too\n");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "x", "--accept-all"]), @"
    status: 4
    ----- stdout -----
      conflict   a.txt         both sides changed the same lines
      skipped    dir/keep.txt  because of the conflicts
      conflict   new.txt       a different file already exists there

    a.txt: both sides changed the same lines
      base, lines 1 to 2
      │ one
      │ two
      ours (working tree), line 1
      │ mine
      theirs (accepted), lines 1 to 3
      │ one
      │ two
      │ x

    new.txt: a different file already exists there
      base                │ nothing
      ours (working tree) │ a file, 9 bytes, sha256 2dfdb699a621…
      theirs (accepted)   │ a file, 2 bytes, sha256 c865f6c5ab8d…
    ----- stderr -----
    airlock: 2 conflicts; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review x` and press x
    airlock: to skip them, add `--reject=a.txt --reject=new.txt`
    airlock: to write everything except conflicts, add `--on-conflict skip`
    airlock: to write both sides between conflict markers, add `--on-conflict markers`
    ");
    assert_eq!(repo.read_tree(), before);
    let json = repo.airlock(&["apply", "x", "--accept-all", "--json"]);
    assert_eq!(json.status, 4);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["applied"], 0);
    assert_eq!(json["files"][0]["outcome"], "conflict");
    repo.airlock(&["apply", "x", "--accept-all", "--reject", "a.txt", "--reject", "new.txt"]).ok();
    assert_eq!(repo.read("dir/keep.txt"), "k\ny\n");
    assert_eq!((repo.read("a.txt"), repo.read("new.txt")), ("mine\n".into(), "mine too\n".into()));
}

#[test]
fn apply_keeps_modes_and_follows_no_symlinks() {
    let repo = TestRepo::new();
    repo.write("secret", "s\n");
    repo.write("lib/f", "f\n");
    repo.commit();
    repo.changeset("k", "echo more >> secret; echo more >> lib/f; echo more > lib/new");
    let secret = repo.path.join("secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("set");
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("f"), "f\n").expect("written");
    std::fs::remove_dir_all(repo.path.join("lib")).expect("removed");
    symlink(outside.path(), repo.path.join("lib")).expect("made");
    assert_snapshot!(repo.airlock(&["apply", "k", "--accept", "lib/f"]), @r#"
    status: 4
    ----- stdout -----
      conflict   lib/f  "lib" is a symlink, and Airlock does not write through symlinks
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    "#);
    assert_snapshot!(repo.airlock(&["apply", "k", "--accept", "lib/new"]), @r#"
    status: 4
    ----- stdout -----
      conflict   lib/new  "lib" is a symlink, and Airlock does not write through symlinks
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    "#);
    assert_eq!(std::fs::read(outside.path().join("f")).expect("the file exists"), b"f\n");
    assert!(!outside.path().join("new").exists());
    repo.airlock(&["apply", "k", "--accept", "secret"]).ok();
    assert_eq!(repo.read("secret"), "s\nmore\n");
    assert_eq!(secret.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    // Replacing a file with several hard links would separate it from its other names.
    repo.git(&["checkout", "-q", "secret"]);
    std::fs::hard_link(&secret, outside.path().join("other")).expect("linked");
    let inode = repo.inode("secret");
    assert_snapshot!(repo.airlock(&["apply", "k", "--accept", "secret"]), @"
    status: 4
    ----- stdout -----
      conflict   secret  it has other hard links, which replacing it would detach
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to separate it from its other hard links, run `cp -p -- secret secret.new && mv -- secret.new secret`
    ");
    assert_eq!(repo.inode("secret"), inode);
}

#[test]
fn apply_handles_kind_changes_and_odd_names() {
    let repo = TestRepo::new();
    repo.write("file", "f\n");
    repo.write("folder/one", "1\n");
    repo.write("folder/two", "2\n");
    symlink("a.txt", repo.path.join("soft")).expect("made");
    let odd = repo.path.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::write(&odd, "latin\n").expect("written");
    repo.write("two\nlines", "x\n");
    repo.commit();
    let script = "rm file; mkdir file; echo in > file/inside; rm -r folder; echo now > folder; \
                  rm soft; echo plain > soft; for f in caf*; do echo more >> \"$f\"; done; \
                  echo more >> \"$(printf 'two\\nlines')\"; printf x > ./-rf; mkfifo pipe";
    repo.sandbox("o", script).ok();
    let diff = repo.diff("o");
    assert_eq!(diff["not_collected"][0]["path"], "pipe");
    let latin = diff["files"].as_array().expect("a list").iter().find(|f| f.get("path_bytes").is_some());
    assert_eq!(latin.expect("it is there")["path_bytes"], serde_json::json!(b"caf\xe9"));
    assert_snapshot!(repo.airlock(&["apply", "o", "--accept", "pipe"]), @"
    status: 1
    ----- stderr -----
    error: pipe cannot be accepted: it is a device, a socket or a pipe
    ");
    assert_snapshot!(repo.airlock(&["apply", "o", "--accept", "file/inside"]), @r#"
    status: 4
    ----- stdout -----
      conflict   file/inside  "file" is a file, not a directory; accept its deletion as well, or move it
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    "#);
    // A directory with a file of the user is not replaced.
    repo.write("folder/mine", "m\n");
    assert_snapshot!(repo.airlock(&["apply", "o", "--accept-all", "--allow-risky"]), @"
    status: 4
    ----- stdout -----
      skipped    -rf               because of the conflicts
      skipped    caf<0xE9>         because of the conflicts
      skipped    file              because of the conflicts
      skipped    file/inside       because of the conflicts
      conflict   folder            a directory with other files or directories exists at this path
      skipped    folder/one        because of the conflicts
      skipped    folder/two        because of the conflicts
      skipped    soft              because of the conflicts
      skipped    two<U+000A>lines  because of the conflicts
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to skip them, add `--reject=folder`
    airlock: to write everything except conflicts, add `--on-conflict skip`
    ");
    std::fs::remove_file(repo.path.join("folder/mine")).expect("removed");
    repo.airlock(&["apply", "o", "--accept-all", "--allow-risky"]).ok();
    assert_eq!(repo.read("file/inside"), "in\n");
    assert_eq!(repo.read("folder"), "now\n");
    assert_eq!(repo.read("soft"), "plain\n");
    assert!(!repo.path.join("soft").is_symlink());
    assert_eq!(std::fs::read(odd).expect("it is there"), b"latin\nmore\n");
    assert_eq!(repo.read("two\nlines"), "x\nmore\n");
    assert_eq!(repo.read("-rf"), "x");
}

#[test]
fn diff_patch_equals_apply_of_everything() {
    let repo = TestRepo::new();
    repo.write("data.bin", b"\0\x01\x02binary\xff");
    repo.write("no-newline", "last");
    repo.write("old name", "moved\n");
    repo.commit();
    let script = "echo x >> a.txt; rm c.txt; chmod +x run.sh; ln -s a.txt link; printf '\\000new' > data.bin; \
                  printf 'last line' > no-newline; mv 'old name' \"$(printf 'n\\303\\251w\\tname')\"; : > empty";
    repo.changeset("p", script);
    let patch = repo.command(AIRLOCK, &["diff", "p", "--patch"]).output().expect("it runs").stdout;
    let other = tempfile::tempdir().expect("a folder");
    let clone = other.path().join("clone");
    repo.git(&["clone", "-q", ".", clone.to_str().expect("UTF-8")]);
    let mut git = std::process::Command::new("git")
        .args(["apply", "--index"])
        .current_dir(&clone)
        .stdin(Stdio::piped())
        .spawn()
        .expect("git runs");
    git.stdin.take().expect("a pipe").write_all(&patch).expect("written");
    assert!(git.wait().expect("it ends").success(), "{}", String::from_utf8_lossy(&patch));
    repo.airlock(&["apply", "p", "--accept-all", "--allow-risky"]).ok();
    repo.git(&["add", "-A"]);
    let tree = |folder: &std::path::Path| {
        let out = std::process::Command::new("git").arg("write-tree").current_dir(folder).output().expect("git runs");
        String::from_utf8(out.stdout).expect("a hash")
    };
    assert_eq!(tree(&clone), tree(&repo.path));
}

#[test]
fn plain_review_saves_answers_and_applies_nothing() {
    let repo = TestRepo::new();
    repo.changeset("r", "echo x >> a.txt; rm c.txt; echo 'export A=1' > .envrc");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock_with_input(&["review", "r", "--plain"], "?\nk\na\nn\ny\n"), @"
    status: 0
    ----- stdout -----

    added  .envrc
    ! high: runs when you enter the directory
    ! high: sets environment variables of commands
    @@ -0,0 +1 @@
    +export A=1
    (1/3) .envrc Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] y  accept this hunk             n  reject it (y 2-4: these lines)
    a  accept the rest of the file   d  reject the rest of the file
    A  accept the rest of all files  D  reject it (A FOLDER: of a folder)
    s  split it into smaller hunks   l  list its lines with numbers
    e  edit it in $EDITOR, accept it E  open the agent's file in $EDITOR
    x  resolve conflicts of the file c  comment (c TEXT)
    C  list all comments             L  list the agent's commits
    R  send comments and rejections  u  undo the last answer, r: redo it
    j  go to the next hunk           k  go to the previous hunk
    g  go to (g NUMBER, g PATH)      /  search (/TEXT)
    f  filter the files (f a: all)   o  order the files
    p  show the resulting file       w  apply accepted changes
    Y  apply, and go on reviewing    q  save and leave
    Q  discard the draft (asks)      ?  this help
    (1/3) .envrc Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] This is the first hunk.
    (1/3) .envrc Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] This file is high risk: answer y for each hunk.
    (1/3) .envrc Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    modified  a.txt
    @@ -1,2 +1,3 @@
     one
     two
    +x
    (2/3) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    deleted  c.txt
    deleted, 5 bytes
    @@ -1 +0,0 @@
    -gone
    (3/3) c.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    ----- stderr -----
    airlock: the decisions are saved. Next: airlock apply r, airlock review r
    ");
    assert_eq!(repo.read_tree(), before, "the end of input applies nothing");
    // Only the undecided file is asked about.
    assert_snapshot!(repo.airlock_with_input(&["review", "r", "--plain"], ""), @"
    status: 0
    ----- stdout -----

    deleted  c.txt
    deleted, 5 bytes
    @@ -1 +0,0 @@
    -gone
    (3/3) c.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    ----- stderr -----
    airlock: the decisions are saved. Next: airlock apply r, airlock review r
    ");
    let decisions: Vec<String> = (repo.diff("r")["files"].as_array().expect("a list").iter())
        .map(|f| f["hunks"][0]["decision"].as_str().expect("a word").to_owned())
        .collect();
    assert_eq!(decisions, ["rejected", "accepted", "undecided"]);
    repo.airlock(&["apply", "r"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
}

#[test]
fn plain_review_resolves_conflicts_and_lists_comments() {
    let mut repo = TestRepo::new();
    repo.set("EDITOR", "sh -c 'sed -i -e /^[\\<\\|=\\>]/d \"$1\"; echo edited >> \"$1\"' sh");
    repo.changeset("r", "sed -i s/two/theirs/ a.txt; echo 'new \u{1b}[31m' > n.txt");
    let before = repo.read("a.txt");
    repo.write("a.txt", before.replace("two", "ours"));
    let answers = "x\n?\nb\nc not\u{1b}[31m so\nC\nL\nR\nu\nr\ny\nq\n";
    assert_snapshot!(repo.airlock_with_input(&["review", "r", "--plain"], answers), @"
    status: 0
    ----- stdout -----

    modified  a.txt
    conflict with the working tree: both sides changed the same lines (x resolves it)
    @@ -1,2 +1,2 @@
     one
    -two
    +theirs
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] Conflict 1 of 1
      base, line 2
      | two
      ours (working tree), line 2
      | ours
      theirs (accepted), line 2
      | theirs
    o: ours, t: theirs, b: both, e: edit, Enter: leave it: Type one of these letters, then Enter.
    o: ours, t: theirs, b: both, e: edit, Enter: leave it: Resolved: both.
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] open  a.txt:2  not<U+001B>[31m so
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] The agent made no commits.
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] This cannot be sent: only Claude Code receives comments, and this is a sandbox of airlock run
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] undone: 1 hunk of a.txt commented
    @@ -1,2 +1,2 @@
     one
    -two
    +theirs
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] redone: 1 hunk of a.txt commented
    @@ -1,2 +1,2 @@
     one
    -two
    +theirs
    ● not<U+001B>[31m so
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    added  n.txt
    ! high: contains invisible characters (line 1)
    @@ -0,0 +1 @@
    +new <U+001B>[31m
    (2/2) n.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    ----- stderr -----
    airlock: the decisions are saved. Next: airlock apply r, airlock review r
    ");
    // The choice is saved with its state, and applies to it alone.
    repo.airlock(&["apply", "r"]).ok();
    assert_eq!(repo.read("a.txt"), before.replace("two", "ours\ntheirs"));
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read("a.txt"), before.replace("two", "ours"));
    repo.airlock_with_input(&["review", "r", "--plain"], "g a.txt\nx\ne\nq\n").ok();
    repo.airlock(&["apply", "r"]).ok();
    assert_eq!(repo.read("a.txt"), before.replace("two\n", "ours\ntwo\ntheirs\nedited\n"));
}

#[test]
fn plain_review_filters_orders_and_decides_lines() {
    let repo = TestRepo::new();
    repo.changeset("l", "printf 'one\n2\n3\n4\n' > a.txt; seq 9 > big.txt; echo x > .envrc");
    let answers = "f\nf nothing*\nf [\nf *.txt\nl\ny 2-3\nn 9\nl\nn 1\nn 4\no\no s\nf a\nq\n";
    assert_snapshot!(repo.airlock_with_input(&["review", "l", "--plain"], answers), @"
    status: 0
    ----- stdout -----

    added  .envrc
    ! high: runs when you enter the directory
    ! high: sets environment variables of commands
    @@ -0,0 +1 @@
    +x
    (1/3) .envrc Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] 0 of 3 hunks are decided; 0 accepted lines were not shown.
    Type f and a letter or a glob: a all, u undecided, r risky, x in conflict, c commented, n new since the last round.
    (1/3) .envrc Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] No file is like that.
    (1/3) .envrc Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] This is not a glob: error parsing glob '[': unclosed character class; missing ']'
    (1/3) .envrc Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] 2 of 3 files are asked about.

    modified  a.txt
    @@ -1,2 +1,4 @@
     one
    -two
    +2
    +3
    +4
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]    1   -two
       2   +2
       3   +3
       4   +4
    Type y or n and numbers, such as y 2-4.
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] (1/2) a.txt (in part so far) Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] Type a number or a range from 1 to 4; l lists the lines.
    (1/2) a.txt (in part so far) Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]    1   -two
       2 y +2
       3 y +3
       4   +4
    Type y or n and numbers, such as y 2-4.
    (1/2) a.txt (in part so far) Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] (1/2) a.txt (in part so far) Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    added  big.txt
    @@ -0,0 +1,9 @@
    +1
    +2
    +3
    +4
    +5
    +6
    +7
    +8
    +9
    (2/2) big.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] Type o and a letter: r by risk, p by path, s by size.
    (2/2) big.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] @@ -0,0 +1,9 @@
    +1
    +2
    +3
    +4
    +5
    +6
    +7
    +8
    +9
    (1/2) big.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] 3 of 3 files are asked about.
    @@ -0,0 +1,9 @@
    +1
    +2
    +3
    +4
    +5
    +6
    +7
    +8
    +9
    (1/3) big.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    ----- stderr -----
    airlock: the decisions are saved. Next: airlock apply l, airlock review l
    ");
    repo.airlock(&["apply", "l"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\n2\n3\n");
    // Nothing but the draft is discarded, after a question.
    repo.airlock_with_input(&["review", "l", "--plain"], "Q\nn\nq\n").ok();
    assert_eq!(repo.diff("l")["files"][2]["hunks"][0]["decision"], "undecided");
    let out = repo.airlock_with_input(&["review", "l", "--plain"], "y\nQ\ny\n").ok();
    assert!(out.stderr.contains("discarded the draft"), "{}", out.stderr);
}

#[test]
fn plain_review_applies_around_conflicts_and_stays() {
    let repo = TestRepo::new();
    repo.changeset("w", "sed -i s/two/theirs/ a.txt; echo n > n.txt; echo o > o.txt");
    repo.write("a.txt", repo.read("a.txt").replace("two", "ours"));
    // Without a person at a terminal, nothing is applied.
    let out = repo.airlock_with_input(&["review", "w", "--plain"], "y\ny\nw\ns\n").ok();
    assert!(out.stdout.contains("conflict  a.txt: both sides changed the same lines"), "{}", out.stdout);
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
    let mut terminal = Terminal::start(&repo, &["review", "w", "--plain"]);
    terminal.shows("(3/3) o.txt");
    terminal.types("w\r");
    terminal.shows("s: skip them, m: write conflict markers, Enter: go back");
    terminal.types("x\r");
    terminal.shows("Type one of these letters");
    terminal.types("s\r");
    terminal.shows("Apply 2 hunks to your working tree?");
    terminal.types("y\r");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n?? n.txt\n");
    // The review goes on after an apply.
    let mut terminal = Terminal::start(&repo, &["review", "w", "--plain"]);
    terminal.shows("(3/3) o.txt");
    terminal.types("g a.txt\r");
    terminal.shows("(1/3) a.txt");
    terminal.types("n\r");
    terminal.wait("o.txt again", |screen| screen.contents().matches("(3/3) o.txt").count() == 2);
    terminal.types("Y\r");
    terminal.shows("Apply 1 hunk to your working tree?");
    terminal.types("y\r");
    terminal.wait("o.txt a third time", |screen| screen.contents().matches("(3/3) o.txt").count() == 3);
    terminal.types("y\r");
    terminal.shows("Apply 2 hunks to your working tree?");
    terminal.types("y\r");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n?? n.txt\n?? o.txt\n");
}

#[test]
fn plain_review_decides_folders_but_no_high_risk() {
    let repo = TestRepo::new();
    repo.changeset("f", "mkdir -p d/e dd; echo x > d/e/a.txt; echo x > d/b.txt; echo x > dd/c.txt; echo 'export A=1' > d/.envrc; echo y >> a.txt");
    let decisions = || -> Vec<String> {
        let files = repo.diff("f")["files"].as_array().expect("a list").clone();
        files
            .iter()
            .map(|f| {
                format!(
                    "{} {}",
                    f["path"].as_str().expect("a path"),
                    f["hunks"][0]["decision"].as_str().expect("a word")
                )
            })
            .collect()
    };
    let out = repo.airlock_with_input(&["review", "f", "--plain"], "A d\ny\nA nothing\nA\nn\nq\n").ok();
    assert!(out.stdout.contains("Accept 2 undecided hunks in 2 files, without 1 of high risk?"), "{}", out.stdout);
    assert!(out.stdout.contains("Nothing is undecided there."), "{}", out.stdout);
    assert_eq!(
        decisions(),
        ["a.txt undecided", "d/.envrc undecided", "d/b.txt accepted", "d/e/a.txt accepted", "dd/c.txt undecided"]
    );
    repo.airlock_with_input(&["review", "f", "--plain"], "D d/\ny\nA\ny\nq\n").ok();
    assert_eq!(
        decisions(),
        ["a.txt accepted", "d/.envrc rejected", "d/b.txt accepted", "d/e/a.txt accepted", "dd/c.txt accepted"]
    );
}

#[test]
fn output_escapes_control_characters() {
    let repo = TestRepo::new();
    let script = "printf 'a\\033[2Jb\\n\\342\\200\\256c\\r\\n' > a.txt; printf x > \"$(printf 'n\\033]0;t\\007')\"";
    repo.changeset("h", script);
    for args in [&["diff", "h"][..], &["diff", "h", "--stat"], &["diff", "h", "--json"], &["review", "h"]] {
        let out = repo.airlock(args).ok();
        assert!(!out.stdout.contains(['\u{1b}', '\u{7}', '\u{202e}', '\r']), "{args:?}: {:?}", out.stdout);
    }
    assert_snapshot!(repo.airlock(&["diff", "h"]), @r"
    status: 0
    ----- stdout -----
    modified  a.txt
    ! high: contains invisible characters (line 1)
    @@ -1,2 +1,2 @@
    -one
    -two
    +a<U+001B>[2Jb
    +<U+202E>c<U+000D>

    added  n<U+001B>]0;t<U+0007>
    ! note: has control characters in its name
    ! note: has a name that is invalid on Windows
    @@ -0,0 +1 @@
    +x
    \ No newline at end of file
    ");
    // Invisible characters are a high finding.
    assert_snapshot!(repo.airlock(&["apply", "h", "--accept", "a.txt"]), @"
    status: 1
    ----- stderr -----
    error: a.txt is high risk and requires confirmation: it contains invisible characters
    hint: review it, then add `--allow-risky`
    ");
}

#[test]
fn apply_refuses_planted_repository() {
    let repo = TestRepo::new();
    let bare = "mkdir -p t/objects t/refs; touch t/objects/x t/refs/x; echo 'ref: refs/heads/main' > t/HEAD; \
                printf '[core]\\n fsmonitor = touch PWNED\\n' > t/config";
    repo.changeset("b", bare);
    // No file is created.
    assert_snapshot!(repo.airlock(&["apply", "b", "--accept-all", "--allow-risky"]), @"
    status: 0
    ----- stdout -----
      refused    t/HEAD       cannot be accepted
      refused    t/config     cannot be accepted
      refused    t/objects/x  cannot be accepted
      refused    t/refs/x     cannot be accepted
    ----- stderr -----
    airlock: 0 of 4 files applied. Next: airlock review b, or airlock rm b
    ");
    assert_snapshot!(repo.airlock(&["apply", "b", "--accept", "t/HEAD"]), @"
    status: 1
    ----- stderr -----
    error: t/HEAD cannot be accepted: it is in a directory that git would open as a repository
    ");
    assert!(!repo.path.join("t").exists());
    // The working tree already has the other half of the repository, which no sandbox has seen.
    repo.changeset("half", "mkdir t; echo 'ref: refs/heads/main' > t/HEAD; echo x > t/config");
    repo.write("t/objects/x", "");
    repo.write("t/refs/x", "");
    assert_snapshot!(repo.airlock(&["apply", "half", "--accept-all"]), @r#"
    status: 4
    ----- stdout -----
      conflict   t/HEAD    git would open "t" as a repository
      conflict   t/config  git would open "t" as a repository
    ----- stderr -----
    airlock: 2 conflicts; nothing was written
    "#);
    assert!(!repo.path.join("t/HEAD").exists());
}

#[test]
fn apply_refuses_escaping_symlinks() {
    let repo = TestRepo::new();
    repo.sandbox(
        "l",
        "mkdir -p a/b; ln -s ../.. a/b/up; ln -s a/b/up/../../../etc/passwd esc; ln -s ../a.txt .gitattributes",
    )
    .ok();
    assert_snapshot!(repo.airlock(&["apply", "l", "--accept", "esc", "--allow-risky"]), @"
    status: 1
    ----- stderr -----
    error: esc cannot be accepted: it contains `..` after a name
    ");
    assert_snapshot!(repo.airlock(&["apply", "l", "--accept", ".gitattributes", "--allow-risky"]), @"
    status: 1
    ----- stderr -----
    error: .gitattributes cannot be accepted: it is a symlink in place of a git file; points out of the working tree
    ");
    repo.airlock(&["apply", "l", "--accept", "a/b/up", "--allow-risky"]).ok();
}

#[test]
fn apply_keeps_file_replaced_by_a_pipe() {
    let repo = TestRepo::new();
    repo.sandbox("f", "rm a.txt; mkfifo a.txt; echo x >> c.txt").ok();
    repo.airlock(&["apply", "f", "--accept-all"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), " M c.txt\n");
}

#[test]
fn apply_preserves_permissions() {
    let repo = TestRepo::new();
    repo.write("priv/old", "content\n");
    repo.write("tool", "#!/bin/sh\n");
    let set_mode = |path: &str, mode: u32| {
        std::fs::set_permissions(repo.path.join(path), std::fs::Permissions::from_mode(mode)).expect("set");
    };
    let mode_of = |path: &str| repo.path.join(path).metadata().expect("the file exists").permissions().mode() & 0o777;
    set_mode("tool", 0o744);
    repo.commit();
    repo.changeset("p", "mv priv/old priv/new; echo more >> tool; chmod +x run.sh");
    set_mode("priv", 0o700);
    set_mode("run.sh", 0o640);
    repo.airlock(&["apply", "p", "--accept-all", "--allow-risky"]).ok();
    assert_eq!((mode_of("priv"), mode_of("tool"), mode_of("run.sh")), (0o700, 0o744, 0o750));
    assert_eq!(repo.read("priv/new"), "content\n");
}

#[test]
fn apply_detects_user_directory_before_writing() {
    let repo = TestRepo::new();
    repo.write("d/f", "f\n");
    repo.commit();
    repo.changeset("d", "rm -r d; echo file > d; echo x >> a.txt");
    std::fs::create_dir(repo.path.join("d/mine")).expect("made");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "d", "--accept-all"]), @"
    status: 4
    ----- stdout -----
      skipped    a.txt  because of the conflicts
      conflict   d      a directory with other files or directories exists at this path
      skipped    d/f    because of the conflicts
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to skip them, add `--reject=d`
    airlock: to write everything except conflicts, add `--on-conflict skip`
    ");
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn apply_with_pasted_reject_hint_uses_review() {
    let repo = TestRepo::new();
    repo.changeset("q", "echo x >> a.txt; echo y > '$(touch PWNED)'");
    repo.airlock_with_input(&["review", "q"], "y\ny\n").ok();
    repo.write("$(touch PWNED)", "mine\n");
    let ran = repo.airlock(&["apply", "q"]);
    assert_snapshot!(ran, @"
    status: 4
    ----- stdout -----
      conflict   $(touch PWNED)  a different file already exists there
      skipped    a.txt           because of the conflicts

    $(touch PWNED): a different file already exists there
      base                │ nothing
      ours (working tree) │ a file, 5 bytes, sha256 fcbc800db3f1…
      theirs (accepted)   │ a file, 2 bytes, sha256 3bb2abb69ebb…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review q` and press x
    airlock: to skip them, add `--reject=$'$(touch PWNED)'`
    airlock: to write everything except conflicts, add `--on-conflict skip`
    airlock: to write both sides between conflict markers, add `--on-conflict markers`
    ");
    let hint = ran.stderr.lines().find_map(|l| l.split_once("add ")).expect("a hint").1.trim_matches('`').to_owned();
    let script = format!("{AIRLOCK} apply q {hint}");
    CommandOutput::from_command(repo.command("bash", &["-c", &script])).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
    assert!(!repo.path.join("PWNED").exists());
}

#[test]
fn apply_accepts_rejected_files_only_by_name() {
    let repo = TestRepo::new();
    repo.changeset("n", "echo x >> a.txt; echo y > new.txt; ln -s /etc/passwd evil");
    assert_snapshot!(repo.airlock_with_input(&["review", "n"], "maybe\nno\nyes\n"), @r#"
    status: 0
    ----- stdout -----
    evil cannot be accepted: it points to an absolute path

    modified  a.txt
    @@ -1,2 +1,3 @@
     one
     two
    +x
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] "maybe" is not an answer. Type one of these, then Enter:
    y  accept this hunk             n  reject it (y 2-4: these lines)
    a  accept the rest of the file   d  reject the rest of the file
    A  accept the rest of all files  D  reject it (A FOLDER: of a folder)
    s  split it into smaller hunks   l  list its lines with numbers
    e  edit it in $EDITOR, accept it E  open the agent's file in $EDITOR
    x  resolve conflicts of the file c  comment (c TEXT)
    C  list all comments             L  list the agent's commits
    R  send comments and rejections  u  undo the last answer, r: redo it
    j  go to the next hunk           k  go to the previous hunk
    g  go to (g NUMBER, g PATH)      /  search (/TEXT)
    f  filter the files (f a: all)   o  order the files
    p  show the resulting file       w  apply accepted changes
    Y  apply, and go on reviewing    q  save and leave
    Q  discard the draft (asks)      ?  this help
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    added  new.txt
    @@ -0,0 +1 @@
    +y
    (2/2) new.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    ----- stderr -----
    airlock: the decisions are saved. Next: airlock apply n
    "#);
    // If everything is decided, the review visits all questions again.
    assert_snapshot!(repo.airlock_with_input(&["review", "n"], "j\nj\n"), @"
    status: 0
    ----- stdout -----
    evil cannot be accepted: it points to an absolute path

    modified  a.txt
    @@ -1,2 +1,3 @@
     one
     two
    +x
    (1/2) a.txt (rejected so far) Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    added  new.txt
    @@ -0,0 +1 @@
    +y
    (2/2) new.txt (accepted so far) Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    ----- stderr -----
    airlock: the decisions are saved. Next: airlock apply n
    ");
    assert_snapshot!(repo.airlock(&["apply", "n", "--accept-all"]), @"
    status: 0
    ----- stdout -----
      skipped    a.txt    rejected in the review: name it to accept it
      refused    evil     cannot be accepted
      created    new.txt
    ----- stderr -----
    airlock: 1 of 3 files applied. Undo: airlock undo n · All changes are decided. Next: airlock resume n -- COMMAND, or airlock rm n
    ");
    assert_eq!(repo.git(&["status", "--short"]), "?? new.txt\n");
    repo.airlock(&["apply", "n", "--accept", "a.txt"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
    assert_snapshot!(repo.airlock(&["apply", "n", "--accept", "*.txt", "--reject", "*.txt"]), @"
    status: 2
    ----- stderr -----
    error: the selection contains no changes of `n`
    hint: to list the paths, run `airlock diff n --name-only`
    ");
}

#[test]
fn apply_reports_obstacles_before_writing() {
    let repo = TestRepo::new();
    repo.write("Foo", "f\n");
    repo.commit();
    repo.changeset("w", "echo x >> a.txt; echo mine > empty; rm Foo; mkdir foo; echo q > foo/x");
    std::fs::create_dir(repo.path.join("empty")).expect("made");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "w", "--accept-all"]), @"
    status: 4
    ----- stdout -----
      skipped    Foo    because of the conflicts
      skipped    a.txt  because of the conflicts
      conflict   empty  an empty directory exists at this path
      skipped    foo/x  because of the conflicts
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to skip them, add `--reject=empty`
    airlock: to write everything except conflicts, add `--on-conflict skip`
    ");
    assert_eq!(repo.read_tree(), before);
    // A path that the plan itself removes is not an obstacle.
    repo.airlock(&["apply", "w", "--accept-all", "--reject", "empty"]).ok();
    assert_eq!(repo.read("foo/x"), "q\n");
    // An empty directory that the apply did not empty is kept.
    std::fs::create_dir(repo.path.join("stays")).expect("made");
    repo.airlock(&["apply", "w", "--accept", "Foo"]).ok();
    assert!(repo.path.join("stays").is_dir() && repo.path.join("empty").is_dir());
    // If git ignores modes, the apply keeps the user's mode.
    repo.git(&["config", "core.fileMode", "false"]);
    repo.git(&["checkout", "-q", "a.txt"]);
    let file = repo.path.join("a.txt");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("set");
    repo.airlock(&["apply", "w", "--accept", "a.txt"]).ok();
    assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o755);
}

#[test]
fn run_keeps_sandbox_with_ignored_files() {
    let repo = TestRepo::new();
    let ran = repo.airlock(&["run", "--", "sh", "-c", "mkdir target; echo x > target/out"]).ok();
    assert!(
        ran.stderr.contains("changed no files, but is kept because it contains ignored new files (target/)"),
        "{}",
        ran.stderr
    );
    assert!(repo.airlock(&["run", "--", "true"]).ok().stderr.contains("changed nothing, so it is removed"));
}

#[test]
fn review_preselect_skips_high_risk_files() {
    let mut repo = TestRepo::new();
    repo.sandbox("p", "echo x >> a.txt; echo 'export A=1' > .envrc; echo new > n.txt").ok();
    let decisions = |repo: &TestRepo| -> Vec<String> {
        let diff = repo.diff("p");
        let files = diff["files"].as_array().expect("files").clone();
        files.iter().map(|f| f["hunks"][0]["decision"].as_str().expect("one").to_owned()).collect()
    };
    repo.set("AIRLOCK_PRESELECT", "everything");
    assert_snapshot!(repo.airlock(&["review", "p"]), @"
    status: 2
    ----- stderr -----
    error: AIRLOCK_PRESELECT: unknown variant `everything`, expected `none` or `all`
    ");
    repo.set("AIRLOCK_PRESELECT", "all");
    // Only the risky file is asked about. The end of the review applies nothing.
    assert_snapshot!(repo.airlock_with_input(&["review", "p", "--plain"], "n\n"), @"
    status: 0
    ----- stdout -----

    added  .envrc
    ! high: runs when you enter the directory
    ! high: sets environment variables of commands
    @@ -0,0 +1 @@
    +export A=1
    (1/3) .envrc Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    ----- stderr -----
    airlock: the decisions are saved. Next: airlock apply p
    ");
    assert_eq!(decisions(&repo), ["rejected", "accepted", "accepted"]);
    assert_eq!(repo.git(&["status", "--short"]), "");
    // Only new changes are preselected, and only once.
    repo.airlock_with_input(&["review", "p", "--plain"], "j\nj\nn\n").ok();
    assert_eq!(decisions(&repo), ["rejected", "accepted", "rejected"]);
    repo.airlock(&["resume", "p", "--", "sh", "-c", "echo more >> a.txt"]).ok();
    repo.airlock_with_input(&["review", "p", "--plain"], "q\n").ok();
    assert_eq!(decisions(&repo), ["rejected", "accepted", "rejected"]);
}
