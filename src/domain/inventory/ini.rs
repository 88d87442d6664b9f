//! Ansible's INI inventory. Floor 1.
//!
//! **Invariant:** pure. One bad line refuses the whole file, and every bad line is reported. Lines mean what they
//! mean to ansible-core 2.19; values are Python literals or text (see [`ini_words::value`]). A problem shows the first word
//! of a line and no value, since a value may be a password.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::groups::{ALL, UNGROUPED};
use super::ini_words;
use super::part::Part;
use super::vars_files::VarsFiles;
use crate::base::text::is_hidden;
use crate::domain::problem::Problem;

/// What the lines below a section's head are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hosts,
    Children,
    Vars,
    /// Lines below a head that is wrong are not read, so that one mistake is one problem.
    Unknown,
}

struct Reader<'a> {
    draft: Draft<'a>,
    line: usize,
    section: (String, Kind),
    /// Groups with a head of their own, which makes them exist.
    declared: BTreeSet<String>,
    /// Groups named before or without a head: what named them, and where.
    named: BTreeMap<String, (String, usize)>,
}

/// Reads one file.
///
/// # Errors
/// Every problem of the file, each with `file:line`.
pub(super) fn parse(file: &str, text: &str, around: &VarsFiles) -> Result<Part, Vec<Problem>> {
    let mut reader = Reader {
        draft: Draft::new(file),
        line: 0,
        section: (UNGROUPED.to_owned(), Kind::Hosts),
        declared: [ALL, UNGROUPED].map(str::to_owned).into(),
        named: BTreeMap::new(),
    };
    for line in text.lines() {
        reader.line = reader.line.saturating_add(1);
        if line.chars().any(|c| c != '\t' && is_hidden(c)) {
            reader.problem(first_word(line), "a line without control and invisible characters");
        } else {
            reader.read_line(line.trim());
        }
        if reader.draft.is_hopeless() {
            break;
        }
    }
    reader.finish(around)
}

impl Reader<'_> {
    fn problem(&mut self, found: impl AsRef<str>, wanted: impl Into<String>) {
        self.draft.problem(self.line, found, wanted);
    }

    fn read_line(&mut self, line: &str) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            return;
        }
        if let Some((group, kind)) = section_head(line) {
            return self.begin_section(group, kind);
        }
        if line.starts_with('[') && line.ends_with(']') {
            self.section.1 = Kind::Unknown;
            return self.problem(line, "[group], [group:children] or [group:vars] without spaces");
        }
        match self.section.1 {
            Kind::Hosts => self.read_hosts(line),
            Kind::Children => self.read_child(line),
            Kind::Vars => self.read_variable(line),
            Kind::Unknown => {}
        }
    }

    fn begin_section(&mut self, group: &str, kind: Option<&str>) {
        let kind = match kind {
            None | Some("hosts") => Kind::Hosts,
            Some("children") => Kind::Children,
            Some("vars") => Kind::Vars,
            Some(other) => {
                self.section.1 = Kind::Unknown;
                return self.problem(format!("[{group}:{other}]"), "[group], [group:children] or [group:vars]");
            }
        };
        if kind == Kind::Vars {
            let by = (format!("[{group}:vars]"), self.line);
            self.named.entry(group.to_owned()).or_insert(by);
        } else {
            self.declared.insert(group.to_owned());
        }
        self.draft.add_group(group, self.line);
        self.section = (group.to_owned(), kind);
    }

    fn read_hosts(&mut self, line: &str) {
        let words = match ini_words::split_words(line) {
            Ok(words) => words,
            Err(wanted) => return self.problem(first_word(line), wanted),
        };
        let Some((pattern, pairs)) = words.split_first() else { return };
        let mut vars = Vec::new();
        for word in pairs {
            let Some((name, value)) = word.split_once('=') else {
                return self
                    .problem(format!("a word without = behind {pattern}"), "name=value without spaces around =");
            };
            vars.push((name, ini_words::value(value)));
        }
        let (names, port) = match ini_words::expand(pattern) {
            Ok(expanded) => expanded,
            Err(wanted) => return self.problem(pattern, wanted),
        };
        for name in names {
            let Some(host) = self.draft.add_host(&name, &self.section.0, port, self.line) else { return };
            for (name, value) in &vars {
                self.draft.set_host(&host, name, value, self.line);
            }
        }
    }

    fn read_child(&mut self, line: &str) {
        let Some(child) = child_name(line) else { return self.problem(line, "the name of a group") };
        let by = (format!("[{}:children] with {child}", self.section.0), self.line);
        self.named.entry(child.to_owned()).or_insert(by);
        self.draft.add_child(&self.section.0, child, self.line);
    }

    fn read_variable(&mut self, line: &str) {
        let Some((name, value)) = line.split_once('=') else { return self.problem(first_word(line), "name=value") };
        self.draft.set_group(&self.section.0, name.trim(), &ini_words::value(value.trim()), self.line);
    }

    fn finish(mut self, around: &VarsFiles) -> Result<Part, Vec<Problem>> {
        for (name, (found, line)) in self.named.iter().filter(|(name, _)| !self.declared.contains(*name)) {
            let wanted = format!("a group that the file defines with [{name}] or [{name}:children]");
            self.draft.problem(*line, found, wanted);
        }
        self.draft.finish(around)
    }
}

/// The first word of a line, without what may be a value.
fn first_word(line: &str) -> &str {
    let line = line.trim();
    line.split(|c: char| c.is_whitespace() || c == '=').next().unwrap_or(line)
}

/// Reads `[group]` or `[group:kind]`, with a comment behind it or not.
fn section_head(line: &str) -> Option<(&str, Option<&str>)> {
    let (group, rest) = group_name(line.strip_prefix('[')?)?;
    let (kind, rest) = match rest.strip_prefix(':') {
        Some(rest) => {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|&end| end > 0)?;
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, rest),
    };
    is_comment(rest.strip_prefix(']')?).then_some((group, kind))
}

/// Splits off a group's name: everything before a colon, a bracket or white space.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, ':' | ']')).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Reads the name of a group on a line of its own. A comment may follow without a space, but only where the line has no
/// other meaning: `web#` is a name, and of `web# x` the name is `web`.
fn child_name(line: &str) -> Option<&str> {
    let (name, rest) = group_name(line)?;
    if is_comment(rest) {
        return Some(name);
    }
    name.rfind('#').filter(|&at| at > 0).map(|at| &name[..at])
}

/// Whether nothing but white space and a comment is left of a line.
fn is_comment(rest: &str) -> bool {
    rest.trim_start().is_empty() || rest.trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::HostName;

    /// Checks the hosts of a file and their variables, or that it is refused. Every answer here is the one that
    /// ansible-inventory 2.19 gives, unless a comment says otherwise.
    #[track_caller]
    fn check(text: &str, want: &str) {
        let shown = match parse("f.ini", text, &VarsFiles::default()) {
            Ok(part) => {
                let hosts: Vec<&str> = part.hosts.keys().map(HostName::as_str).collect();
                let vars = part.hosts.values().filter(|host| !host.vars.is_empty()).map(|host| {
                    let vars: Vec<String> = host.vars.iter().map(|(name, value)| format!("{name}=<{value}>")).collect();
                    format!("{}: {}", host.name, vars.join(" "))
                });
                let vars: Vec<String> = vars.collect();
                let gap = if vars.is_empty() { "" } else { " | " };
                format!("{}{gap}{}", hosts.join(" "), vars.join(" ; "))
            }
            Err(_) => "REFUSED".to_owned(),
        };
        assert_eq!(shown, want, "{text}");
    }

    #[track_caller]
    fn refused(text: &str, want: &[&str]) {
        let problems = parse("f.ini", text, &VarsFiles::default()).expect_err("has problems");
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown, want, "{text}");
    }

    #[test]
    fn one_bad_line_refuses_the_file_and_all_are_reported() {
        refused(
            "h a\nh2 b=1\n[x:vars]\nk\n[ y ]\nignored line\n[z:what]\nignored\n[w:children]\nq\n",
            &[
                "f.ini:1: found a word without = behind h; wanted name=value without spaces around =",
                "f.ini:4: found k; wanted name=value",
                "f.ini:5: found [ y ]; wanted [group], [group:children] or [group:vars] without spaces",
                "f.ini:7: found [z:what]; wanted [group], [group:children] or [group:vars]",
                "f.ini:10: found [w:children] with q; wanted a group that the file defines with [q] or [q:children]",
                "f.ini:3: found [x:vars]; wanted a group that the file defines with [x] or [x:children]",
            ],
        );
        refused(
            "\u{feff}h\nweb[1:2]$\nweb[0:4000000000]\nweb[1:400][1:400]\nh\u{202e}\n",
            &[
                "f.ini:1: found <U+FEFF>h; wanted a line without control and invisible characters",
                "f.ini:2: found web1$; wanted a host name: letters, digits and . _ : - only, first a letter or digit, at most 253 bytes",
                "f.ini:3: found web[0:4000000000]; wanted a range of at most 100000 hosts",
                "f.ini:4: found web[1:400][1:400]; wanted a range of at most 100000 hosts",
                "f.ini:5: found h<U+202E>; wanted a line without control and invisible characters",
            ],
        );
        refused(
            "h ansible_port=x\ng ansible_ssh_common_args='-o \"ProxyCommand nc gw %x\"'\n",
            &[
                "f.ini:2: found g with a ProxyCommand that cannot be filled in in ansible_ssh_common_args; wanted ProxyJump, -J, ProxyCommand with %h, %p, %r and %n, or options that change nothing",
                "f.ini:1: found h with an ansible_port that is no port; wanted a port from 1 to 65535",
            ],
        );
        refused(
            "127.0.0.1:2223\n127.0.0.1:2224\nx\n[g]\nx:23\ny ansible_host=10.0.0.1\ny ansible_host=10.0.0.2\n",
            &[
                "f.ini:2: found 127.0.0.1 with another port than at f.ini:1; wanted a name of its own for every host, with ansible_host and ansible_port: of two with one name Ansible keeps one",
                "f.ini:5: found x with a port, and without one at f.ini:3; wanted a name of its own for every host, with ansible_host and ansible_port: of two with one name Ansible keeps one",
                "f.ini:7: found y with another address than at f.ini:6; wanted a name of its own for every host, with ansible_host and ansible_port: of two with one name Ansible keeps one",
            ],
        );
        refused(
            "web[01:30] ansible_host=10.0.0.[1:30]\ndb[1:3] ansible_port=x\nz ansible_ssh_common_args='-i /root/k'\n",
            &[
                "f.ini:2: found db1 and 2 more of its line with an ansible_port that is no port; wanted a port from 1 to 65535",
                "f.ini:1: found web01 and 29 more of its line with a range in the value of ansible_host; wanted ranges in names only, as in web[1:3]: a value is the same for every host of its line, so give each host a line of its own",
                "f.ini:3: found z with -i in ansible_ssh_common_args; wanted ansible_private_key_file with the path of the key",
            ],
        );
    }

    #[test]
    fn problems_show_no_values() {
        for text in [
            "h ansible_password=\"hunter2",
            "h ansible_password = hunter2",
            "h ansible_password=hunter2\u{7}",
            "[g]\n[g:vars]\nansible_password hunter2",
            "h ansible_port=x ansible_password=hunter2",
            "h ansible_port=hunter2",
            "h ansible_host='hunter2 x'",
            "h ansible_host=hunter2:22",
            "h ansible_user='hunter2 x'",
            "h ansible_connection=hunter2",
            "h spoolgate_jobs=hunter2",
            "h ansible_ssh_common_args='-i hunter2'",
            "h ansible_ssh_common_args=hunter2",
            "h ansible_ssh_common_args='-o IdentityFile=hunter2'",
            "h ansible_ssh_common_args='-J \"hunter2 x\"'",
            "h ansible_ssh_common_args='-o \"ProxyCommand hunter2 %x\"'",
            "[g]\nh[1:2]\n[g:vars]\nansible_port=hunter2",
        ] {
            let problems = parse("f.ini", text, &VarsFiles::default()).expect_err("has problems");
            assert!(problems.iter().all(|problem| !problem.to_string().contains("hunter2")), "{problems:?}");
        }
    }

    #[test]
    fn hosts_carry_what_their_groups_say_of_the_connection() {
        let text = "[web]\r\nweb1 ansible_host=10.0.0.1\r\nweb2:23\r\n[web:vars]\r\nansible_user=deploy\r\nansible_port=2222\r\n";
        let part = parse("f.ini", text, &VarsFiles::default()).unwrap();
        let shown: Vec<String> = part
            .hosts
            .values()
            .map(|host| format!("{} {}:{} {:?}", host.name, host.address, host.port, host.user))
            .collect();
        assert_eq!(shown, ["web1 10.0.0.1:2222 Some(\"deploy\")", "web2 web2:23 Some(\"deploy\")"]);
        assert_eq!(part.pointers[&"web2".parse().unwrap()], "f.ini:3");
    }

    #[test]
    fn ranges_and_ports_name_hosts() {
        check("web[1:3]", "web1 web2 web3");
        check("web[01:03]", "web01 web02 web03");
        check("web[008:011]", "web008 web009 web010 web011");
        check("web[01:9]", "REFUSED");
        check("web[1:10:4]", "web1 web5 web9");
        check("web[a:c]", "weba webb webc");
        check("web[x:C]", "webA webB webC webx weby webz");
        check("web[c:a]", "REFUSED");
        check("web[9:7]", "");
        check("web[:03]", "web0 web1 web2 web3");
        check("web[01:]", "REFUSED");
        check("web[a:3]", "REFUSED");
        check("web[1:2]-[a:b].x", "web1-a.x web1-b.x web2-a.x web2-b.x");
        check(&format!("web[{}1:{}3]", "0".repeat(70_000), "0".repeat(70_000)), "REFUSED");
        check("web[1:3", "REFUSED");
        check("web[1]", "REFUSED");
        check("web[1:2:0]", "REFUSED");
        check("web[1:2:x]", "REFUSED");
        check("h:22", "h | h: ansible_port=<22>");
        check("10.0.0.1:2222", "10.0.0.1 | 10.0.0.1: ansible_port=<2222>");
        // Ansible takes these for one host, and a port behind a word for a part of its name.
        check("h:22\n[g]\nh:23", "REFUSED");
        check("h\n[g]\nh:23", "REFUSED");
        check("h2:abc", "REFUSED");
        check("h:22\n[g]\nh", "h | h: ansible_port=<22>");
        check("h:22\n[g]\nh:022", "h | h: ansible_port=<22>");
        check("h:", "REFUSED");
        check("h:0\ni:0022", "h i | i: ansible_port=<22>");
        check("h-:22", "REFUSED");
        check("web[1:2]:2200", "web1 web2 | web1: ansible_port=<2200> ; web2: ansible_port=<2200>");
        check("web[:2]:22", "REFUSED");
        check("2001:db8::1", "2001:db8::1");
        check("[2001:db8::1]", "REFUSED");
        check("[2001:db8::1]:22", "2001:db8::1 | 2001:db8::1: ansible_port=<22>");
        check("[10.0.0.1]:22", "10.0.0.1 | 10.0.0.1: ansible_port=<22>");
        check("---", "REFUSED");
        check("h\n[a]\nh2\n[ungrouped:vars]\nv=u\n[all:vars]\nw=a", "h h2 | h: v=<u> w=<a> ; h2: w=<a>");
        check("h_1.x:22", "h_1.x | h_1.x: ansible_port=<22>");
    }

    #[test]
    fn values_are_shell_words_and_python_literals() {
        check("h a b=1", "REFUSED");
        check("h j=hello#x k=v", "h | h: j=<hello>");
        check("h j=\"a b\" k='c d'", "h | h: j=<a b> k=<c d>");
        check("h j=\"a # b\" # c", "h | h: j=<a # b>");
        check(r"h j=a\ b", "h | h: j=<a b>");
        check(r#"h j="a\\"b""#, "REFUSED");
        check(r#"h j="a\q""#, "h | h: j=<a\\q>");
        check(r"h j='a\q'", "h | h: j=<a\\q>");
        check("h j=\"open", "REFUSED");
        check("h j=", "h | h: j=<>");
        check("h j==x", "h | h: j=<=x>");
        check("h \"j=a b\"", "h | h: j=<a b>");
        check("h j=1", "h | h: j=<1>");
        check("h j=\"1\"", "h | h: j=<1>");
        check("h j='\"1\"'", "h | h: j=<1>");
        check(
            "h j=1.50 k=1e3 l=1e16 m=1e-5 n=.5 o=5.",
            "h | h: j=<1.5> k=<1000.0> l=<1e+16> m=<1e-05> n=<0.5> o=<5.0>",
        );
        check(
            "h j=0x1F k=0o17 l=0b11 m=1_000 n=1__0 o=007 p=00",
            "h | h: j=<31> k=<15> l=<3> m=<1000> n=<1__0> o=<007> p=<0>",
        );
        check("h j=+5 k=-5 l=--5 m=-0 n=1_ o=0x_f", "h | h: j=<5> k=<-5> l=<--5> m=<0> n=<1_> o=<15>");
        check("h j=True k=true l=None m=yes n=null", "h | h: j=<True> k=<true> l=<None> m=<yes> n=<null>");
        // Quotes that the words lost make no literal; lists and dictionaries are compact JSON.
        check("h j=[1,2] k={\"x\":1}", "h | h: j=<[1,2]> k=<{x:1}>");
        check(
            r#"h j="[1, 'a', None, True, (2.50,)]" k='{"x": {1: -.5}}' # c"#,
            r#"h | h: j=<[1,"a",null,true,[2.5]]> k=<{"x":{"1":-0.5}}>"#,
        );
        check(
            "h\n[all:vars]\nj=['a b'] # c\nk='a\\tb'\nl=\"a\" 'b'\nm=[1, x]\nn=r'a\\b'",
            "h | h: j=<[\"a b\"]> k=<a\tb> l=<ab> m=<[1, x]> n=<a\\b>",
        );
        check(
            "h j=1.2.3 k=1.10 l=1e999 m=0777.5 n=1_0.5 o=0x o2=1e5_0",
            "h | h: j=<1.2.3> k=<1.1> l=<inf> m=<777.5> n=<10.5> o=<0x> o2=<1e+50>",
        );
        check("h ansible_group_priority=3", "h | h: ansible_group_priority=<3>");
        check("h j=a;b", "h | h: j=<a;b>");
        check("\"\" a=1", "REFUSED");
        check("h j=1# x", "h | h: j=<1>");
        check("h 'a b'=c", "h | h: a b=<c>");
    }

    #[test]
    fn sections_groups_and_precedence() {
        check("h:22 ansible_port=23", "h | h: ansible_port=<23>");
        check("[ a ]", "REFUSED");
        check("[a] # c\nh", "h");
        check("[a]x\nh", "REFUSED");
        check("[a:foo]\nh", "REFUSED");
        check("[a:children]\nb", "REFUSED");
        check("[a:vars]\nx=1", "REFUSED");
        check(
            "[b]\nh\n[b:vars]\nx=1 # c\ny=abc # c\nz=\"q r\" # c\nv = ; semi",
            "h | h: v=<; semi> x=<1> y=<abc # c> z=<q r>",
        );
        check("[b]\nh\n[b:vars]\nx", "REFUSED");
        check("[b]\nh\n[b:vars]\nx=\n=y", "h | h: =<y> x=<>");
        check("[a:children]\nb # c\n[b]\nh", "h");
        check("[a:children]\nb c\n[b]\nh", "REFUSED");
        check("[a:children]\na", "REFUSED");
        check("[a:children]\nb\n[b:children]\na", "REFUSED");
        check("[a:children]\nall", "REFUSED");
        check("[aa]\nh\n[zz]\nh\n[aa:vars]\nv=aa\n[zz:vars]\nv=zz", "h | h: v=<zz>");
        check("[aa]\nh\n[zz]\nh\n[aa:vars]\nv=aa\nansible_group_priority=5\n[zz:vars]\nv=zz", "h | h: v=<aa>");
        check("[zz:children]\naa\n[aa]\nh\n[aa:vars]\nv=aa\n[zz:vars]\nv=zz", "h | h: v=<aa>");
        check("h v=1 w=1\n[a]\nh v=2", "h | h: v=<2> w=<1>");
        check("[a:children]\nb\n[b:vars]\nx=1", "REFUSED");
        check("; c\n# d\nh", "h");
        check("[a]\nh\n[a:vars]\nansible_group_priority=x", "REFUSED");
        check("[a:hosts]\nh", "h");
        check(";", "");
        check("[a:vars]\nx=1\n[a:children]\nb\n[b]\nh", "h | h: x=<1>");
    }
}
