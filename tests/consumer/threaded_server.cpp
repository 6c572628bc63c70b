// A server of blocking threads on a shared pool, with a deadline for each request, and its client,
// also Pier, in the same process.
#include <pier/pier.h>

#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

struct app {
    pier_runner *runner;
    pier_db *db;
    int listener;
};

static std::string answer(app *self, const char *request)
{
    pier_error err = {};
    pier::options<pier_scope_options> options;
    options.timeout_ms = 10000;
    PIER_AUTO(pier_scope) scope = pier_scope_open(self->runner, &options, &err);
    const char *path = std::strstr(request, "/users/");
    char *name = nullptr;
    int got = pier_db_fetch_into(self->db, "select name from users where id = $1",
                                 PIER_ARGS(path ? std::atol(path + 7) : 0), PIER_INTO(&name), &err);
    std::string body = got > 0 ? name : err.message;
    std::free(name);
    return (got > 0    ? "HTTP/1.0 200 OK"
            : got == 0 ? "HTTP/1.0 404 Not Found"
                       : "HTTP/1.0 500 Internal Server Error") +
           std::string("\r\nContent-Length: ") + std::to_string(body.size()) + "\r\n\r\n" + body;
}

static void serve(app *self)
{
    for (int fd; (fd = accept(self->listener, nullptr, nullptr)) >= 0; close(fd)) {
        char request[1024] = "";
        if (read(fd, request, sizeof request - 1) > 0) {
            std::string text = answer(self, request);
            if (write(fd, text.data(), text.size()) < 0) {
                std::perror("write");
            }
        }
    }
}

static int listen_anywhere(app *self)
{
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    sockaddr *generic = reinterpret_cast<sockaddr *>(&address);
    self->listener = socket(AF_INET, SOCK_STREAM, 0);
    bool ok = bind(self->listener, generic, size) == 0 && listen(self->listener, 64) == 0 &&
              getsockname(self->listener, generic, &size) == 0;
    return ok ? ntohs(address.sin_port) : 0;
}

int main(int argc, char **argv)
{
    pier_error err = {};
    app self = {};
    self.runner = pier_runner_open(nullptr, &err);
    self.db = pier_db_open(self.runner, argc > 1 ? argv[1] : "sqlite::memory:", nullptr, &err);
    pier_db_execute_script(self.db,
                           "create table users(id integer primary key, name text);"
                           "insert into users values (1, 'ada'), (2, 'bob')",
                           &err);
    std::string base = "http://127.0.0.1:" + std::to_string(listen_anywhere(&self));
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++) {
        threads.emplace_back(serve, &self);
    }

    pier::options<pier_http_options> options;
    options.base_url = base.c_str();
    pier_http *http = pier_http_open(self.runner, &options, &err);
    PIER_AUTO(pier_response) bob = pier_http_get(http, "/users/2", nullptr, &err);
    pier_error missing = {};
    PIER_AUTO(pier_response) nobody = pier_http_get(http, "/users/3", nullptr, &missing);
    if (err.status < 0) {
        std::fprintf(stderr, "threaded_server: %s\n", err.message);
    }
    bool ok = bob && std::string(pier_response_text(bob, nullptr)) == "bob" && !nobody &&
              missing.status == PIER_EHTTP_STATUS && missing.http_status == 404;

    shutdown(self.listener, SHUT_RDWR);
    for (std::thread &thread : threads) {
        thread.join();
    }
    close(self.listener);
    pier_runner_close(self.runner);
    return ok ? 0 : 1;
}
