def task_add():
    """

CREATE TABLE `task_meta`
(
    `id`        bigint unsigned NOT NULL AUTO_INCREMENT,
    `title`     varchar(255)    not null default '' COMMENT '标题',
    `account`   varchar(64)     not null COMMENT '脚本执行账号',
    `timeout`   int unsigned    not null default 0  COMMENT '执行超时',
    `hosts_raw` varchar(4096)   not null  COMMENT '执行机器的ip列表json',
    `script`    text            not null COMMENT '执行的脚本',
    `args`      varchar(512)    not null default '' COMMENT '执行的脚本的参数',
    `creator`   varchar(64)     not null default '' COMMENT '创建者',
    `created`   timestamp       not null COMMENT '创建时间',
    `done`      int unsigned    not null COMMENT '任务结束与否的标志位=0未结束，=1结束',
    PRIMARY KEY (`id`),
    KEY (`created`)
) ENGINE = InnoDB
  DEFAULT CHARSET = utf8;
    """

    data = {
        "script": '''#!/bin/bash\nss -ntlp''',
        "account": "root",
        "title": "test01",
        "timeout": 5,
        "hosts": json.dumps(["192.168.3.200","192.168.3.201"]),
        "creator": "xiaoyi",
        # "created": 123,
        # "done": "0",
        # "tag_json": json.dumps(tag),

    }
    print(data)
    # uri = 'http://192.168.3.200:8082/api/v1/task'
    uri = 'http://localhost:8082/api/v1/task'
    res = requests.post(uri, json=data, headers=JSON_H)
    print(curlify.to_curl(res.request))
    print(res.status_code)
    print(res.text)


