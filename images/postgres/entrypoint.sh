#!/bin/sh
# Creates the database on the first start, then runs the server.
set -eu

secrets=/run/secrets/monthend
new=$PGDATA.new

mkdir -p "$PGHOST"

# Everything is created next to the final folder, which is renamed last. A pod
# that is killed before that starts over.
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    rm -rf "$new"
    initdb --pgdata="$new" --username=postgres --pwfile="$secrets/superuser-password" \
        --auth-local=peer --auth-host=scram-sha-256 --data-checksums \
        --encoding=UTF8 --lc-collate=C --lc-ctype=C.UTF-8
    pg_ctl --pgdata="$new" --wait --options="-c config_file=/etc/monthend/postgresql.conf -c data_directory=$new -c listen_addresses=''" start
    # Passwords are passed in variables, not in arguments, and psql quotes them.
    MIGRATE=$(cat "$secrets/migrate-password") \
    OPERATOR=$(cat "$secrets/operator-password") \
    WORKER=$(cat "$secrets/worker-password") \
        psql --no-psqlrc --set=ON_ERROR_STOP=1 --username=postgres --dbname=postgres <<'SQL'
\getenv migrate MIGRATE
\getenv operator OPERATOR
\getenv worker WORKER
create role monthend_migrate login password :'migrate';
create role monthend_operator login password :'operator';
create role monthend_worker login password :'worker';
create database monthend owner monthend_migrate;
\connect monthend
alter schema public owner to monthend_migrate;
SQL
    pg_ctl --pgdata="$new" --wait --mode=fast stop
    mv "$new" "$PGDATA"
fi

exec postgres -c config_file=/etc/monthend/postgresql.conf "$@"
