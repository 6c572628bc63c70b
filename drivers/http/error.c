/*
 * What libcurl's failures are in Pier's words.
 */
#include "drivers/http/error.h"

#include "sdk/error.h"

int pier__http_status_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return PIER_OK;
    case CURLE_OUT_OF_MEMORY:
        return PIER_ENOMEM;
    case CURLE_OPERATION_TIMEDOUT:
        return PIER_ETIMEDOUT;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return PIER_EINVAL;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_INTERFACE_FAILED:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
        return PIER_ECONNECT;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_BAD_CONTENT_ENCODING:
        return PIER_EPROTOCOL;
    default:
        return PIER_EIO;
    }
}

/* Says more than libcurl where its text does not say what it means for the caller. */
static const char *explain(CURLcode code)
{
    switch (code) {
    case CURLE_GOT_NOTHING:
        return "the server closed the connection without an answer";
    case CURLE_PARTIAL_FILE:
        return "the connection ended before the body was complete";
    case CURLE_SSL_CACERT_BADFILE:
        return "the file of trusted certificates cannot be read; check ca_file";
    default:
        return "";
    }
}

int pier__http_error(pier_error *err, CURLcode code, const char *subject, const char *detail)
{
    const char *what = explain(code);
    if (!*what) {
        what = *detail ? detail : curl_easy_strerror(code);
    }
    int status = pier_error_set(err, pier__http_status_of(code), "%s: %.200s", subject, what);
    if (err) {
        err->origin = PIER_ORIGIN_HTTP;
        err->native = (int)code;
    }
    return status;
}
