//! Inventories that are given to Ansible and to us: written by hand, each for a rule of the format.

/// The seed's own example. It is wrong as it is written: `appname1` and its like are named and never defined.
pub(crate) const SEED: &str = r#"[all:vars]
ZDOPS_SYSTEM_ENV=test

[appname]
host1 ansible_port=5555 ansible_host=192.0.2.50 ZDOPS_HOSTNAME=host1 ansible_ssh_common_args="-o 'ProxyCommand ssh -W %h:%p dale@dev.daledi.cn -p 51006'"
host2 ZDOPS_HOSTNAME=host2 ZDOPS_LOCATION=aliyun

[appname:vars]
ZDOPS_APP=appname

[clustername:children]
appname1
appname2
[clustername:vars]
ZDOPS_CLUSTER = clustername

[projectname:children]
clustername1
clustername2

[projectname:vars]
ZDOPS_PROJECT = projectname
"#;

/// Texts of `hosts.ini`.
#[rustfmt::skip]
pub(crate) const INI: &[&str] = &[
    "", "h", "h1\nh2\n", "; c\n# d\nh", ";", "h a=1", "h a", "h a b=1", "h =1", "h a=", "h a==x", "h \"a=b c\"", "h 'a b'=c",
    "h j=hello#x k=v", "h j=\"a # b\" # c", r"h j=a\ b", r#"h j="a\"b""#, r#"h j="a\\b""#, r#"h j="a\q""#, r"h j='a\q'",
    "h j=\"open", "h j='open", "h j=a\\", "h j=\"a b\" k='c d'", "h j=1 k=-5 l=+5 m=--5 n=-0 o=1_000 p=1__0 q=1_ r=0x_f",
    "h j=1.50 k=1e3 l=1e16 m=1e-5 n=.5 o=5. p=1.2.3 q=1e999 r=-1.0 s=1E5", "h j=0x1F k=0o17 l=0b11 m=007 n=00 o=0777.5 p=0x",
    "h j=True k=true l=None m=yes n=null o=FALSE", "h j=[1,2] k={'x':1} l=(1,2) m=[] n={} o=()", r#"h j="[1, 'a', None, True]""#,
    r#"h j="{'a': {'b': [1.50, 0x1F]}}""#, r#"h j="{1: 'x', 'y': 2}""#, r#"h j="(1,)" k="(1)""#, r#"h j="[1" k="{'a'}x""#,
    "h j='\"1\"' k=\"'1'\"", "h j=1# x", "h j=a;b", "h j={{x}}", "h j=\"{{ x }}\"", "h 发布=杨 k=é",
    "[a]\nh\n[a:vars]\nx=1", "[a]\nh\n[a:vars]\nx=1 # c\ny=abc # c\nz=\"q r\" # c\nv = ; semi", "[a]\nh\n[a:vars]\nx=", "[a]\nh\n[a:vars]\n=y",
    "[a]\nh\n[a:vars]\nx", "[a]\nh\n[a:vars]\nx=[1, 2] # c\ny={'a': \"b\"}\nz=[1, x]\nw='a' 'b'", "[a]\nh\n[a:vars]\nx='a\\nb'\ny=r'a\\nb'\nz=\"\\u53d1\"",
    "[a]\nh\n[a:vars]\nx=\"\"\"a\"\"\"\ny='it\\'s'\nz=''\nw=u'x'", "[a]\nh\n[a:vars]\nx = 1 = 2\ny:z=1", "[a]\nh\n[a:vars]\nx=#1\ny= # c",
    "[ a ]", "[a] # c\nh", "[a]x\nh", "[a:foo]\nh", "[a:children]\nb", "[a:vars]\nx=1", "[a:children]\nb # c\n[b]\nh", "[a:children]\nb# c\n[b]\nh", "[a:children]\nb#\n[b#]\nh", "[a:children]\nb## c\n[b#]\nh", "[a:children]\nb c\n[b]\nh",
    "[a:children]\na", "[a:children]\nb\n[b:children]\na", "[a:children]\nb\n[b:children]\nc\n[c:children]\na", "[a:children]\nall", "[a:children]\nungrouped\n[a]\nh",
    "[all:children]\na\n[a]\nh", "[all]\nh", "[ungrouped]\nh", "[ungrouped]\nh\n[a]\nh", "[a:hosts]\nh", "[a]\n[b]\nh", "[a-b.c]\nh", "[a]]\nh", "[[a]\nh", "[]\nh", "[:vars]\nx=1",
    "[a:children]\nb\n[b:vars]\nx=1", "[a:vars]\nx=1\n[a:children]\nb\n[b]\nh", "[a:vars]\nx=1\n[b:children]\na\n[a]\nh", "[b:children]\na\n[b:vars]\ny=2\n[a]\nh",
    "[aa]\nh\n[zz]\nh\n[aa:vars]\nv=aa\n[zz:vars]\nv=zz", "[aa]\nh\n[zz]\nh\n[aa:vars]\nv=aa\nansible_group_priority=5\n[zz:vars]\nv=zz",
    "[aa]\nh\n[zz]\nh\n[aa:vars]\nv=aa\nansible_group_priority=1.9\n[zz:vars]\nv=zz", "[aa]\nh\n[zz]\nh\n[aa:vars]\nv=aa\nansible_group_priority=\"2\"\n[zz:vars]\nv=zz",
    "[a]\nh\n[a:vars]\nansible_group_priority=x", "[a]\nh\n[a:vars]\nansible_group_priority=None", "[a]\nh\n[a:vars]\nansible_group_priority=True", "h ansible_group_priority=3",
    "[zz:children]\naa\n[aa]\nh\n[aa:vars]\nv=aa\n[zz:vars]\nv=zz", "h v=1 w=1\n[a]\nh v=2", "[ungrouped:vars]\nv=u\n[all:vars]\nw=a\n[a]\nh2\n[ungrouped]\nh",
    "[a:children]\nb\nc\n[b:children]\nd\n[c]\nh\n[d]\nh\n[b:vars]\nv=b\n[c:vars]\nv=c\n[d:vars]\nv=d", "[a]\nh\n[a]\nh2\n[a:vars]\nx=1\n[a:vars]\nx=2\ny=3",
    "web[1:3]", "web[01:03]", "web[1:10:3]", "web[008:011]", "web[:3]", "web[:03]", "web[9:7]", "web[01:]", "web[a:c]", "web[A:C]", "web[c:a]", "web[a:3]", "web[1:2]-[a:b]",
    "web[1:2:x]", "web[1]", "web[1:2", "web[01:3]", "web[1:2].example.com a=1", "web[x:Z:10]", "10.0.0.[1:3]", "[1:2]web",
    "h:22", "h:22 ansible_port=23", "10.0.0.1:2222", "h:22\n[g]\nh", "h:22\n[g]\nh:22", "h:", "h:0", "h:0022", "web[1:2]:2200",
    "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:22", "[10.0.0.1]:22", "[h1]:22", "[1:2]:22", "[h:33]:22", "h[1:2:22", "1::2:22", "h_1.x:22",
    "---", "h\r\n[a]\r\nh2 x=1\r\n", "  h  a=1  ", "\th\ta=1", "\"\" a=1", "h\n\n\n[a]\n\nh2", "[a]h", "a[b]\nh", "localhost", "localhost ansible_connection=local", "127.0.0.1\nlocalhost",
    "h ansible_host=10.0.0.1 ansible_user=u", "h ansible_ssh_common_args=\"-o 'ProxyCommand ssh -W %h:%p u@gw -p 51006'\"", "[g]\ng", "[g]\ng x=1", "h\n[h]\nh2",
    SEED,
];

/// The seed's example as it was meant.
pub(crate) const SEED_REPAIRED: &str = r#"[all:vars]
ZDOPS_SYSTEM_ENV=test

[appname1]
host1 ansible_port=5555 ansible_host=192.0.2.50 ZDOPS_HOSTNAME=host1 ansible_ssh_common_args="-o 'ProxyCommand ssh -W %h:%p dale@dev.daledi.cn -p 51006'"
host2 ZDOPS_HOSTNAME=host2 ZDOPS_LOCATION=aliyun
[appname1:vars]
ZDOPS_APP=appname1

[appname2]
host2
host3 ansible_host=192.0.2.53 ZDOPS_HOSTNAME=host3
[appname2:vars]
ZDOPS_APP=appname2

[clustername1:children]
appname1
appname2
[clustername1:vars]
ZDOPS_CLUSTER = clustername1

[projectname:children]
clustername1
[projectname:vars]
ZDOPS_PROJECT = projectname
"#;

/// Plain scalars and other values, each put into a YAML inventory as a variable.
#[rustfmt::skip]
pub(crate) const YAML_VALUES: &[&str] = &[
    "yes", "No", "ON", "off", "true", "TRUE", "tRue", "y", "n", "~", "null", "NULL", "", "''", "\"\"", "0", "00", "0123", "-0123", "0o17", "08", "0129", "0_", "0x1F", "-0x1f",
    "0xfffffffffffffffffffffffff", "0b101", "0b_", "1_000", "-1_0", "+12", "123456789012345678901234567890", "1:30", "190:20:30", "-1:30", "1:60", "1:5", "0:30", "1:30.5", "1.",
    ".5", "-.5", "+.5", "1.5", "1.50", "1e3", "1.0e3", "1.5e+3", "1.5E-3", "1_0.5_0", ".inf", "-.INF", "+.inf", ".nan", ".NaN", "-.nan", "1.2.3", "10.0.0.1", "2026-11-21",
    "2026-1-2", "2026-13-01", "2025-02-29", "2024-02-29", "2026-11-21 10:00:00", "2026-11-21T10:00:00Z", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.1234567 +8",
    "2026-11-21 10:00", "2026-11-21 25:00:00", "'1'", "\"1\"", "'yes'", "\"a\\tb\\u53d1\\x41\"", "'it''s'", "\"a\\\n        b\"", "plain text with: no", "plain text", "a#b", "a #b", "a: b",
    "[1, 2, yes, '1', 1.50, ~]", "[]", "{}", "{a: 1, b: [x, {c: d}]}", "{2: a, yes: b, ~: c, 1.5: d}", "{a: , b: }", "[a, b, ]", "{a, b}", "[a: 1, b]", "[[1], [2, [3]]]", "{\"a\":1}",
    "|\n        a\n        b\n", "|-\n        a\n\n        b\n", ">\n        a\n        b\n\n        c\n", ">-\n        a\n          b\n", "|+\n        a\n\n", "a\n        b\n\n        c",
    "!!str 1", "!!int '12'", "!!float 1", "!!bool yes", "!!null x", "!!str yes", "!!int x", "! 1", "!unsafe '{{ x }}'", "!unsafe 1", "!foo 1", "!!python/object:x 1",
    "\"{{ x }}\"", "{{ x }}", "=", "<<", "%x", "@x", "`x`", "*nope", "&a 1", "- 1", "? 1", "-1", "- a", "a, b", "\"open", "'open", "[1", "{a: 1", "1]", "a b: c d", "\\n", "发布", "😀",
    "\n      - 1\n      - a: b\n        c: d\n", "\n    - 1\n    - 2\n", "\n        a: 1\n        b:\n          - 2\n", "\n      ? a\n      : b\n", "\n      - - 1\n        - 2\n", "!!seq [1]", "!!map {a: 1}",
    "0.1", "100000000000000000.0", "1.0e+16", "0.00001", "-0.0", "1.7976931348623157e+308",
];

/// Texts of `hosts.yml`.
#[rustfmt::skip]
pub(crate) const YAML: &[&str] = &[
    "", "# c\n", "---\n", "all:\n", "all:\n  hosts:\n    h:\n", "all:\n  hosts: h\n", "all: {hosts: {h: {a: 1}}}\n", "---\nall:\n  hosts:\n    h:\n...\n", "{\"all\": {\"hosts\": {\"h\": {\"a\": 1e3}}}}",
    "web:\n  hosts:\n    w[1:3]:\n      a: 1\n    w2:\n      a: 2\n", "web:\n  hosts:\n    w[1:2]:2200:\n    '[2001:db8::1]:22':\n", "web:\n  hosts:\n    5:\n",
    "web:\n  hosts:\n    yes:\n", "web:\n  hosts:\n    1.5:\n", "web:\n  hosts:\n    ~:\n", "web:\n  hosts:\n    '':\n", "web:\n  hosts:\n    h: x\n", "web:\n  hosts:\n    h: 0\n", "web:\n  hosts:\n    h: []\n", "web:\n  hosts:\n    h: [1]\n",
    "web:\n  hosts:\n    h: ''\n", "web:\n  hosts: [h]\n", "web:\n  hosts: 5\n", "web:\n  vars: [a]\n", "web:\n  vars: a\n  hosts: h\n", "web:\n  children: db\ndb:\n  hosts: h\n", "web:\n  children:\n    db:\n      hosts:\n        h:\n  vars:\n    a: 1\n",
    "web:\n  children: [db]\n", "1:\n  hosts: h\n", "yes:\n  hosts: h\n", "'':\n  hosts: h\n", "~:\n  hosts: h\n", "all:\n  children:\n    all:\n", "a:\n  children:\n    b:\n      children:\n        a:\n", "a:\n  children:\n    a:\n",
    "plugin: x\n", "web:\n  hosts:\n    h:\n      a: !vault |\n        $ANSIBLE_VAULT;1.1;AES256\n        3131\n", "web:\n  hosts:\n    h: {a: !vault x}\n", "all:\n  hosts:\n    h:\n      ansible_host: 10.0.0.1\n      ansible_port: 22\n", "x: &x {hosts: {h: {a: 1}}}\ny: *x\n",
    "web:\n  vars: &v {a: 1, b: 2}\n  hosts: h\ndb:\n  vars:\n    <<: *v\n    b: 3\n  hosts: h2\n", "web:\n  hosts:\n    h:\n      <<: [{a: 1}, {a: 2, b: 3}]\n      c: 4\n", "web:\n  hosts:\n    h:\n      <<: 5\n", "web:\n  hosts:\n    h:\n      '<<': {a: 1}\n",
    "web:\n  hosts:\n    h:\n      m: {z: 0, <<: {a: 1, z: 9}}\n", "web:\n  hosts:\n    h: &h {a: *h}\n", "web:\n\thosts:\n", "web:\n  hosts:\n    h:\n   x:\n", "web: {hosts: h\n", "web:\n  hosts:\n    h:\n      a: 1\n      [x]: 2\n", "web:\n  hosts:\n    h:\n      {x: 1}: 2\n",
    "web:\n  hosts: h\n---\ndb:\n  hosts: h2\n", "%YAML 1.1\n---\nweb:\n  hosts: h\n", "web:\n  hosts:\n    h: {a: 1,}\n", "web:\n  hosts:\n    h: {a: 1, b}\n", "web:\n  hosts:\n    ? h\n    : a: 1\n", "\u{feff}web:\n  hosts: h\n",
    "web:\r\n  hosts:\r\n    h:\r\n      a: 1\r\n", "web:\n  hosts:\n    h: # c\n      a: 1 # d\n      # e\n      b: 2\n", "web:\n  hosts:\n    h: !!map {a: 1}\n", "web:\n  hosts:\n    h: {a: b, ? c : d}\n", "web:\n  hosts:\n    \"h\": {'a': 1}\n",
    "web:\n  hosts:\n    h:\n      a: 1\n  vars:\n    a: 2\n    ansible_group_priority: 5\nzz:\n  hosts: h\n  vars: {a: 3, b: 4}\nyy:\n  hosts: h\n  vars: {b: 5}\n", "web:\n  vars: {ansible_group_priority: x}\n  hosts: h\n", "web:\n  vars: {ansible_group_priority: [1]}\n  hosts: h\n",
    "all:\n  vars: {a: 1}\nungrouped:\n  vars: {b: 2}\n  hosts: h\nweb:\n  hosts: h2\n", "all:\n  children:\n    ungrouped:\n      hosts: h\n    web:\n      hosts: h\n", "web:\n  hosts:\n    h:\nweb2:\n  hosts:\n    h: {a: 1}\n", "web:\n  hosts:\n    web: {a: 1}\n",
    "a: {hosts: {\"a\": {\"b\": \"\\ud83d\\ude00\"}}}", "[1, 2]\n", "a: &x\n  hosts: &y\n    h: &z\n      v: &w 1\n      u: *w\n", "a:\n  hosts:\n    h: {a: &a [1, 2], b: *a}\n",
    "a:\n  hosts:\n    h:\n      x: &t yes\n      y: *t\n", "a:\n  hosts:\n    h:\n      k: v\n     l: w\n", "a:\n    hosts:\n        h:\n            x: 1\n", "a: {hosts: {h: {k: {<<: {a: 1}}}}}\n", "'a':\n  \"hosts\": {h: {x: \"a\\/b\"}}\n",
    "a:\n  hosts:\n    h:\n      x: \"a\n        b\"\n      y: 'a\n\n        b'\n", "!!map\na:\n  hosts: h\n", "--- {a: {hosts: h}}\n", "--- # c\na: {hosts: h}\n", "a: {hosts: h}\n... \n# c\n",
];

/// Files by path below `inventory/`; scripts end in `.sh`.
#[rustfmt::skip]
pub(crate) const FILES: &[&[(&str, &str)]] = &[
    &[("hosts", "h a=1\n[g]\nh2\n")],
    &[("hosts", "all:\n  hosts:\n    h: {a: yes}\n")],
    &[("hosts", "web:\n  children:\n    x: {hosts: {h: }}\n")],
    &[("hosts", "---\nall:\n  hosts: h\n")],
    &[("hosts.json", "{\"web\": {\"hosts\": {\"h\": {\"a\": [1, 2.50]}}}}")],
    &[("h.ini", "[g]\nh\n[g:vars]\na=file\nb=file"), ("group_vars/g.yml", "a: gv\n"), ("group_vars/all.yml", "b: all\nc: all\n")],
    &[("h.ini", "[g]\nh a=own\n"), ("group_vars/g.yml", "a: gv\nb: gv\n"), ("host_vars/h.yml", "b: hv\n")],
    &[("h.ini", "[g]\nh a=own\n"), ("host_vars/h", "a: hv\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g.yml", "a: yml\n"), ("group_vars/g.yaml", "a: yaml\n"), ("group_vars/g.json", "{\"a\": \"json\"}")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g.json", "{\"a\": 1e3}")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g", "a: none\n"), ("group_vars/g.yml", "a: yml\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g/b.yml", "a: 2\nc: 2\n"), ("group_vars/g/a.yml", "a: 1\nb: 1\n"), ("group_vars/g/z~", "a: 9\n"), ("group_vars/g/.x.yml", "a: 9\n"), ("group_vars/g/x.txt", "a: 9\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g/sub/x.yml", "a: 3\n"), ("group_vars/g/t", "a: 4\n"), ("group_vars/g/sub.d/x.yml", "a: 9\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g/x.yml", "a: 3\n"), ("group_vars/g.yml", "a: 4\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g.yml/x.yml", "a: 3\n"), ("group_vars/g.yaml", "a: 4\n")],
    &[("h.ini", "[aa]\nh\n[zz]\nh\n[top:children]\naa\nzz\n"), ("group_vars/aa.yml", "a: aa\n"), ("group_vars/zz.yml", "a: zz\n"), ("group_vars/top.yml", "a: top\nb: top\n")],
    &[("h.ini", "[aa]\nh\n[zz]\nh\n[aa:vars]\nansible_group_priority=9\n"), ("group_vars/aa.yml", "a: aa\n"), ("group_vars/zz.yml", "a: zz\n")],
    &[("h.ini", "[aa]\nh\n[zz]\nh\n"), ("group_vars/aa.yml", "a: aa\nansible_group_priority: 9\n"), ("group_vars/zz.yml", "a: zz\n")],
    &[("h.ini", "h\n[g]\nh2\n"), ("group_vars/ungrouped.yml", "a: un\n"), ("group_vars/all", "a: all\nb: all\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g.yml", "- a\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g.yml", "a: [\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g.yml", "5\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g.yml", "")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g.yml", "[]\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/g.yml", "$ANSIBLE_VAULT;1.1;AES256\n3131\n")],
    &[("h.ini", "[g]\nh\n"), ("group_vars/other.yml", "a: [\n")],
    &[("h.ini", "[g]\nh\n"), ("host_vars/other.yml", "a: [\n")],
    &[("h.ini", "web1.example.com\n"), ("host_vars/web1.example.com.yml", "a: 1\n")],
    &[("h.ini", "web1.example.com\n"), ("host_vars/web1.example.com", "a: 1\n")],
    &[("h.ini", "[g]\nh\n"), ("host_vars/h/a.yml", "a: 1\n"), ("host_vars/h/b.yml", "a: {x: [yes, no]}\n")],
    &[("h.yml", "g:\n  hosts: {h: {a: 1}}\n  vars: {b: 1}\n"), ("group_vars/g.yml", "a: 2\nb: 2\n"), ("host_vars/h.yml", "a: 3\n")],
    &[("h.yml", "g:\n  hosts: h\n"), ("group_vars/g.yml", "a: 0123\nb: 2020-01-01\nc: 1:30\nd: \"{{ x }}\"\n")],
    &[("h.ini", "[g]\nh\n"), ("README.md", "[broken"), ("h.ini~", "[broken"), (".hidden.ini", "[broken"), ("h.ini.bak", "[broken"), ("old.orig", "[broken")],
    &[("a.ini", "[g]\nh\n"), ("b.yml", "k:\n  hosts: h2\n")],
    &[("h.sh", "{}")],
    &[("h.sh", "{\"g\": [\"h\"], \"_meta\": {\"hostvars\": {\"h\": {\"a\": 1, \"b\": [true, null, 1.50]}}}}")],
    &[("h.sh", "{\"g\": {\"hosts\": [\"h\", \"h2\"], \"vars\": {\"v\": true}, \"children\": [\"k\"]}, \"k\": [\"h3\"]}")],
    &[("h.sh", "{\"g\": {\"hosts\": [\"h\"]}, \"_meta\": {\"hostvars\": {}}}")],
    &[("h.sh", "{\"g\": {\"hosts\": [\"h\"]}, \"_meta\": {}}")],
    &[("h.sh", "{\"g\": {\"hosts\": [\"h\"]}, \"_meta\": []}")],
    &[("h.sh", "{\"g\": {\"hosts\": [\"h\"]}, \"_meta\": {\"hostvars\": []}}")],
    &[("h.sh", "{\"g\": {\"hosts\": [\"h\"]}, \"_meta\": {\"hostvars\": {\"h\": []}}}")],
    &[("h.sh", "{\"g\": {\"hosts\": [\"h\"]}, \"_meta\": {\"hostvars\": {\"x\": {\"a\": 1}}}}")],
    &[("h.sh", "{\"lone\": {\"a\": 1}}")],
    &[("h.sh", "{\"lone\": {}}")],
    &[("h.sh", "{\"lone\": {\"a\": 1}, \"_meta\": {\"hostvars\": {\"lone\": {\"b\": 1}}}}")],
    &[("h.sh", "{\"g\": \"h\"}")],
    &[("h.sh", "{\"g\": {\"hosts\": \"h\"}}")],
    &[("h.sh", "{\"g\": {\"hosts\": {\"h\": 1}}}")],
    &[("h.sh", "{\"g\": {\"vars\": []}}")],
    &[("h.sh", "{\"g\": {\"children\": [\"g\"]}}")],
    &[("h.sh", "{\"g\": {\"children\": [\"k\"]}, \"k\": {\"children\": [\"g\"]}}")],
    &[("h.sh", "{\"g\": {\"children\": {\"k\": 1}}, \"k\": [\"h\"]}")],
    &[("h.sh", "{\"g\": [1]}")],
    &[("h.sh", "{\"g\": [\"\"]}")],
    &[("h.sh", "{\"\": [\"h\"]}")],
    &[("h.sh", "[]")],
    &[("h.sh", "")],
    &[("h.sh", "{\"g\": ")],
    &[("h.sh", "{\"all\": {\"vars\": {\"a\": 1}, \"children\": [\"g\", \"ungrouped\"]}, \"g\": {\"hosts\": [\"h\"], \"vars\": {\"ansible_group_priority\": 3}}, \"ungrouped\": {\"hosts\": [\"h2\"]}}")],
    &[("h.sh", "{\"g\": {\"hosts\": [\"h\"], \"vars\": {\"a\": \"\\ud83d\\ude00 \\u53d1\"}}}"), ("group_vars/g.yml", "b: 1\n"), ("host_vars/h.yml", "c: 1\n")],
    &[("h.sh", "{\"g\": {\"hosts\": [\"h\"], \"other\": 1}}")],
    &[("h.sh", "exit 3")],
    &[("h.sh", "exit -9")],
];

/// Where we refuse what Ansible takes, each with a part of what we say.
#[rustfmt::skip]
pub(crate) const STRICTER: &[(&str, &str, &str)] = &[
    ("h.ini", "h/../x", "a host name"),
    ("h.ini", "h$(x)", "a host name"),
    ("h.ini", "*", "a host name"),
    ("h.ini", "h a=\u{7}", "control and invisible"),
    ("h.ini", "\u{feff}h", "control and invisible"),
    ("h.ini", "web[1:9:-1]", "a step of 1 or more"),
    ("h.ini", "h ansible_port=x", "a port from"),
    ("h.ini", "127.0.0.1:2223\n127.0.0.1:2224", "a name of its own for every host"),
    ("h.ini", "h:22\n[g]\nh:23", "a name of its own for every host"),
    ("h.ini", "h\n[g]\nh:23", "a name of its own for every host"),
    ("h.ini", "h ansible_host=10.0.0.1\n[g]\nh ansible_host=10.0.0.2", "a name of its own for every host"),
    ("h.yml", "a:\n  hosts:\n    'h:22':\nb:\n  hosts:\n    'h:23':\n", "a name of its own for every host"),
    ("h.yml", "a:\n  hosts:\n    h: {ansible_port: 22}\nb:\n  hosts:\n    h: {ansible_port: 23}\n", "a name of its own for every host"),
    ("h.ini", "h2:abc", "an address without a port"),
    ("h.ini", "h:22x", "an address without a port"),
    ("h.ini", "h.-x:22", "an address without a port"),
    ("h.ini", "[a:c]:22", "an address without a port"),
    ("h.yml", "web:\n  hosts:\n    h:\n    h:22:\n", "a name of its own for every host"),
    ("h.ini", "h-:22", "an address without a port"),
    ("h.ini", "web[:2]:22", "an address without a port"),
    ("h.ini", "h ansible_host=10.0.0.1:2222", "an address without a port"),
    ("h.yml", "a:\n  hosts:\n    h: {ansible_host: '10.0.0.1:2222'}\n", "an address without a port"),
    ("h.sh", "{\"g\": [\"10.0.0.1:2222\"]}", "an address without a port"),
    ("h.ini", "web[1:3] ansible_host=10.0.0.[1:3]", "ranges in names only"),
    ("h.yml", "a:\n  hosts:\n    'web[1:3]': {ansible_host: '10.0.0.[1:3]'}\n", "ranges in names only"),
    ("h.ini", "h ansible_ssh_common_args='-i k'", "ansible_private_key_file"),
    ("h.ini", "h ansible_connection=docker", "ssh or local"),
    ("h.ini", "h ansible_host=-oProxyCommand=x", "an address"),
    ("h.ini", "h ansible_host=a ansible_ssh_host=b", "one of the two"),
    ("h.ini", "h ansible_ssh_common_args='-o ProxyCommand=%x'", "ProxyJump"),
    ("h.ini", "[db]\ndb x=1\ndb2", "set them for the whole group"),
    ("h.ini", "[ungrouped:children]\na\n[a]\nh", "in no group"),
    ("h.yml", "web:\n  hosts: h\n  host: h2\n", "hosts, vars or children"),
    ("h.yml", "web:\n  hosts: h\n  x:\n", "hosts, vars or children"),
    ("h.yml", "web: [h]\n", "a mapping of hosts, vars and children"),
    ("h.yml", "web: h\n", "a mapping of hosts, vars and children"),
    ("h.yml", "web:\n  hosts: h\n  hosts: h2\n", "each key once"),
    ("h.yml", "web:\n  hosts:\n    h: {a: 1}\n    h: {a: 2}\n", "each key once"),
    ("h.yml", "web:\n  hosts:\n    h: {a: 1, a: 2}\n", "each key once"),
    ("h.ini", "web]1", "a host name"),
    ("h.ini", "::1", "a host name"),
    ("h.ini", ":22", "a host name"),
    ("h.sh", "{\"g\": [\"h[1:2]\"]}", "a host name"),
    ("h.yml", "plugin: ''\n", "a mapping of hosts, vars and children"),
    ("h.yml", "h1 a=1\n", "a mapping of groups"),
    ("h.yml", "a:\n- b\n", "a mapping of hosts, vars and children"),
    ("h.yml", "a:\n  hosts:\n    ? |\n      h\n    : \n", "a host name"),
    ("h.yml", "a:\n  hosts:\n    h: {yes: 1}\n", "the name of a variable"),
    ("h.yml", "a:\n  hosts:\n    h: {a: {1: x, yes: y}}\n", "each key once"),
    ("h.yml", "a:\n  hosts:\n    h:\n      a: \"x\n      y\"\n", "indentation in quoted scalar"),
    ("h.yml", "~\n", "a mapping of groups"),
    ("h.yml", "null\n", "a mapping of groups"),
    ("h.ini", "[g]\n[k]\nh\n<group_vars/g.yml>\na: [\n", "YAML"),
    ("h.yml", "web:\n  hosts:\n    h: {a: !!binary aGk=}\n", "no tag, or one of"),
    ("h.yml", "web:\n  hosts:\n    h: {a: !!set {x}}\n", "no tag, or one of"),
    ("h.yml", "web:\n  hosts:\n    h: {a: [.inf]}\n", "numbers that JSON can hold"),
    ("h.yml", "web:\n  hosts:\n    h: {a: \"\\0\"}\n", "without U+0000"),
    ("h.yml", "web:\n  hosts:\n    'h:':\n", "a port after the colon"),
    ("h.yml", "h\n", "a mapping of groups"),
    ("h.yml", "web:\n  hosts:\n    'a b':\n", "a host name"),
    ("h.yml", "web:\n  hosts: h\n  vars: {1: x}\n", "the name of a variable"),
    ("h.sh", "{\"g\": [\"h\"], \"g\": [\"h2\"]}", "each key once"),
    ("h.sh", "{\"g\": {\"hosts\": [\"h\"], \"vars\": {\"a\": NaN}}}", "a JSON value"),
    ("h.sh", "{\"g\": [\"a b\"]}", "a host name"),
    ("a.ini", "h\n[g]\nh\n<b.ini>\nh\n", "each host in one file"),
];

/// Files that both take and that mean another value: Python objects that our reader of literals does not know stay text, and
/// a question mark inside of brackets is no key.
pub(crate) const OTHERWISE: &[(&str, &str)] = &[
    ("h.yml", "web:\n  hosts:\n    h: {a: [?1]}\n"),
    ("h.ini", "[a]\nh\n[a:vars]\nx={1, 2}"),
    ("h.ini", "[a]\nh\n[a:vars]\nx=b'x'"),
    ("h.ini", "[a]\nh\n[a:vars]\nx=1+2j"),
    ("h.ini", "[a]\nh\n[a:vars]\nx='\\0'"),
    ("h.ini", "[a]\nh\n[a:vars]\nx={'a': 1, 'a': 2}"),
    ("h.ini", "[a]\nh\n[a:vars]\nx={True: 1}"),
];

/// What we take and Ansible refuses: YAML 1.2 allows a name to be given to a second value, and a pair of nothing.
pub(crate) const LAXER: &[(&str, &str)] =
    &[("h.yml", "web:\n  hosts:\n    h: {a: &x 1, b: &x 2, c: *x}\n"), ("h.yml", "web:\n  hosts:\n    h: {a: [:]}\n")];
