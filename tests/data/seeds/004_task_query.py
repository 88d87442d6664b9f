def task_query():

    uri = 'http://localhost:8082/api/v1/task'
    res = requests.get(uri, headers=JSON_H)
    print(curlify.to_curl(res.request))
    print(res.status_code)
    print(res.text)
