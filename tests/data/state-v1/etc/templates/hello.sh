echo "hello $1 from $SPOOLGATE_HOST"
