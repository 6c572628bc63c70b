# What pier_testdb_open runs, as `sh -c`, to make a throw-away server or directory and to remove it
# again. It reads from a socket whose end tells it that the program is done or dead, in a session of
# its own, so that neither Ctrl-C nor SIGKILL for the program keeps it from cleaning up.
#
# Arguments: KIND BASE TIMEOUT_S IMAGE SETTING...
# KIND is directory, cluster or docker. Nothing but one line goes to standard output: `ready` and
# where (a directory, or host and port), or `failed` and why.
set -u
kind=$1 base=$2 timeout_s=$3 image=$4
shift 4
directory="" server="" container="" launch=""

say() { printf '%s\n' "$*" >&4; }

fail() {
    say "failed $*"
    clean_up
    exit 1
}

# The lines that say why a server did not start, as one.
reason() { grep -iE 'fatal|panic|error|cannot' "$1" | tail -n 2 | tr '\n\t' '  ' | cut -c1-300; }

# Directories whose owner was killed together with this script. The lock of a directory is held by
# this shell and by the server, whichever lives longer.
sweep() {
    for old in "$base"/pier-testdb-*; do
        if [ -O "$old/lock" ] && [ ! -L "$old" ]; then
            flock -n "$old/lock" rm -rf "$old" 4>&-
        fi
    done
}

make_directory() {
    umask 077
    ! command -v flock >/dev/null || sweep
    new=$(mktemp -d "$base/pier-new-XXXXXX") || fail "no directory can be made in $base: set TMPDIR"
    directory=$new
    # Locked before it has the name that a sweep looks for.
    exec 9>"$new/lock"
    ! command -v flock >/dev/null || flock -n 9
    mv "$new" "$base/pier-testdb-${new##*-}" || fail "$new cannot be renamed"
    directory=$base/pier-testdb-${new##*-}
    cd "$directory" || fail "$directory cannot be entered"
}

clean_up() {
    if [ -n "$container" ]; then
        docker rm --force --volumes "$container" >/dev/null
    fi
    if [ -n "$server" ]; then
        # A test may have stopped it.
        kill -CONT "$server"
        # Immediate shutdown: the data go anyway. The postmaster gives its children 5 s.
        kill -QUIT "$server"
        wait "$server"
    fi
    if [ -n "$directory" ]; then
        cd / && rm -rf "$directory"
    fi
}

find_bin() {
    bin=${PIER_POSTGRES_BIN:-}
    if [ -n "$bin" ]; then
        [ ! -x "$bin/initdb" ] || [ ! -x "$bin/postgres" ] || return 0
        fail "PIER_POSTGRES_BIN is $bin, where there are no programs initdb and postgres: name their directory," \
            "or unset it to have them looked for"
    fi
    for bin in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -t/ -k5Vr) \
        "$(pg_config --bindir)" /usr/local/pgsql/bin "$(dirname "$(command -v initdb || echo /x)")"; do
        if [ -n "$bin" ] && [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ]; then
            return
        fi
    done
    fail "no Postgres server is installed here (initdb, postgres): install one (Debian: postgresql;" \
        "Fedora: postgresql-server; Homebrew: postgresql), name the directory of its programs in" \
        "PIER_POSTGRES_BIN, or name a server, or docker:IMAGE, in PIER_TEST_POSTGRES"
}

# Sets $launch to the words before a command that make it run as a user whom Postgres accepts, and
# end when this shell is killed.
find_user() {
    launch=
    if command -v setpriv >/dev/null; then
        ! setpriv --help | grep -q pdeathsig || launch="setpriv --pdeathsig QUIT"
    fi
    [ "$(id -u)" = 0 ] || return 0
    for user in postgres nobody; do
        if id "$user" >/dev/null; then
            command -v setpriv >/dev/null || fail "root cannot run Postgres: install setpriv (util-linux)"
            launch="${launch:-setpriv} --reuid $user --regid $(id -g "$user") --init-groups"
            chown "$user" "$directory"
            $launch test -x "$directory" && return 0
            fail "the user $user cannot enter $directory: set TMPDIR to a directory that all can enter"
        fi
    done
    fail "root cannot run Postgres, and there is no user postgres here: add one"
}

start_cluster() {
    # The name of a unix socket has 107 bytes at most.
    [ ${#base} -le 70 ] || base=/tmp
    make_directory
    find_bin
    find_user
    locale=C
    ! locale -a | grep -qix 'C.utf-\{0,1\}8' || locale=C.UTF-8
    # Small WAL segments: the first one is written in full.
    $launch "$bin/initdb" -D "$directory/data" -U postgres -A trust -E UTF8 --locale="$locale" -N \
        --wal-segsize=1 4>&- >initdb.log 2>&1 || fail "initdb failed: $(reason initdb.log)"
    first=yes
    for setting in listen_addresses= unix_socket_directories="$directory" port=5432 fsync=off \
        synchronous_commit=off full_page_writes=off shared_buffers=32MB \
        dynamic_shared_memory_type=mmap "$@"; do
        [ "$first" = no ] || { first=no; set --; }
        set -- "$@" -c "$setting"
    done
    $launch "$bin/postgres" -D "$directory/data" "$@" </dev/null 4>&- >server.log 2>&1 &
    server=$!
    tries=$((timeout_s * 50))
    while :; do
        # The eighth line is what pg_ctl waits for.
        case $(sed -n 8p data/postmaster.pid) in ready*) break ;; esac
        kill -0 "$server" || { server=; fail "Postgres did not start: $(reason server.log)"; }
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "Postgres was not ready after $timeout_s s: $(reason server.log)"
        sleep 0.02
    done
    say "ready $directory 5432"
}

# Whether it runs, told from when it does not answer yet.
is_running() { [ "$(docker inspect --format '{{.State.Running}}' "$container")" = true ]; }

start_container() {
    make_directory
    command -v docker >/dev/null || fail "docker:$image was asked for, but there is no docker here: install it" \
        "(Debian: docker.io), or unset PIER_TEST_POSTGRES for a private server"
    first=yes
    for setting in fsync=off synchronous_commit=off full_page_writes=off "$@"; do
        [ "$first" = no ] || { first=no; set -- postgres; }
        set -- "$@" -c "$setting"
    done
    docker run --detach --label pier-testdb --publish 127.0.0.1::5432 --cidfile cid \
        --env POSTGRES_HOST_AUTH_METHOD=trust "$image" "$@" 4>&- >/dev/null 2>docker.log
    status=$?
    # A container that was made but did not start is there all the same.
    container=$(cat cid)
    [ "$status" = 0 ] || fail "docker run $image failed: $(reason docker.log)"
    tries=$((timeout_s * 5))
    # By TCP, since the images start a server without it first, to fill it.
    until docker exec "$container" pg_isready -q -h 127.0.0.1 -U postgres 4>&-; do
        is_running || {
            docker logs "$container" >server.log 2>&1
            fail "the container of $image ended: $(reason server.log)"
        }
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "the container of $image was not ready after $timeout_s s"
        sleep 0.2
    done
    port=$(docker port "$container" 5432/tcp | sed -n 's/.*://p' | head -n 1)
    [ -n "$port" ] || fail "the container of $image publishes no port"
    say "ready 127.0.0.1 $port"
}

main() {
    # A program that died reads no answer; what was made must be removed all the same.
    trap '' PIPE
    case $kind in
    directory) make_directory; say "ready $directory 0" ;;
    cluster) start_cluster "$@" ;;
    docker) start_container "$@" ;;
    esac
    read -r _
    clean_up
}

# In the background, and the shell that was started ends at once: the program has no child that it
# does not know of. The program sees the end of the clean-up as the end of the socket.
exec 3<&0 4>&1 >/dev/null 2>&1
main "$@" <&3 3<&- &
