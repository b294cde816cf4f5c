/* The fast way through a message that has nothing unusual in it; `proxy.sip.message.parse` is the whole story.
 *
 * scan(data, keys) takes a message apart as `parse` does, or returns None: for a fault, a folded line, a blank in an odd
 * place, a tag in capitals, for whatever is not plain. `parse` then reads it itself and says what is wrong. So nothing
 * here reports an error or decides what SIP allows; it only must not accept what `parse` would not, or read it
 * differently, and `tests/fuzz/test_scan.py` compares the two.
 *
 * keys: header name as written -> key (lower-case long name). Returns (method, uri) or (status, reason), then
 * fields [(key, line)], lines {key: line} or None when a key stands twice, body, CSeq number and method, Call-ID,
 * From tag, To tag, sent-by and branch of the first Via.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>
#include <strings.h>

typedef struct {
    const char *at, *end;
} span;

enum { VIA, FROM, TO, CALL_ID, CSEQ, REQUIRED, CONTENT_LENGTH = REQUIRED, MAX_FORWARDS, SINGLE };

static const char *const names[SINGLE] = {"via", "from", "to", "call-id", "cseq", "content-length", "max-forwards"};
static const char token_marks[] = "-.!%*_+`'~";

static int is_token(span text) {
    if (text.at == text.end) return 0;
    for (const char *c = text.at; c < text.end; c++)
        if (!Py_ISALNUM(*c) && (!*c || !strchr(token_marks, *c))) return 0;
    return 1;
}

static int is(span text, const char *word) {
    size_t length = strlen(word);
    return (size_t)(text.end - text.at) == length && !memcmp(text.at, word, length);
}

static int starts(span text, const char *word) {
    size_t length = strlen(word);
    return (size_t)(text.end - text.at) >= length && !memcmp(text.at, word, length);
}

static int blank(char c) { return c == ' ' || c == '\t'; }

static span strip(span text) {
    while (text.at < text.end && blank(*text.at)) text.at++;
    while (text.at < text.end && blank(text.end[-1])) text.end--;
    return text;
}

static PyObject *bytes(span text) { return PyBytes_FromStringAndSize(text.at, text.end - text.at); }

/* What stands before `stop`; *rest is what follows it, or empty at the end. */
static span before(span text, char stop, span *rest) {
    const char *found = memchr(text.at, stop, text.end - text.at);
    *rest = (span){found ? found + 1 : text.end, text.end};
    return (span){text.at, found ? found : text.end};
}

/* -1: not a decimal number of at most nine digits. */
static long number(span digits) {
    long value = 0;
    if (digits.at == digits.end || digits.end - digits.at > 9) return -1;
    for (; digits.at < digits.end; digits.at++) {
        if (!Py_ISDIGIT(*digits.at)) return -1;
        value = value * 10 + (*digits.at - '0');
    }
    return value;
}

/* The tag of a From or To line into *tag; 0 when it is written in a way that is not plain. */
static int find_tag(span line, span *tag) {
    const char *c = line.end;
    while (c > line.at && c[-1] != '>') c--;
    *tag = (span){line.end, line.end};
    for (; line.end - c >= 4; c++) {
        if ((c[0] != ';' && !blank(c[0])) || (c[1] | 32) != 't' || (c[2] | 32) != 'a' || (c[3] | 32) != 'g') continue;
        span rest = {c, line.end}, ignored;
        if (!starts(rest, ";tag=")) return 0;
        rest.at += 5;
        *tag = strip(before(rest, ';', &ignored));
        for (const char *d = tag->at; d < tag->end; d++)
            if (blank(*d) || *d == ',') return 0;
        return 1;
    }
    return 1;
}

/* sent-by and branch of the first Via; 0 when it is written in a way that is not plain. */
static int find_via(span value, span *sent_by, span *branch) {
    span rest, protocol = before(strip(before(value, ',', &rest)), ' ', &rest);
    if (!starts(protocol, "SIP/2.0/")) return 0;
    protocol.at += 8;
    *sent_by = before(rest, ';', &rest);
    if (!is_token(protocol) || sent_by->at == sent_by->end) return 0;
    for (const char *c = sent_by->at; c < sent_by->end; c++)
        if (blank(*c)) return 0;
    *branch = (span){rest.end, rest.end};
    while (rest.at < rest.end) {
        span parameter = before(rest, ';', &rest);
        if (parameter.end - parameter.at < 6 || strncasecmp(strip(parameter).at, "branch", 6)) continue;
        if (!starts(parameter, "branch=")) return 0;
        parameter.at += 7;
        *branch = parameter;
        for (const char *c = parameter.at; c < parameter.end; c++)
            if (blank(*c)) return 0;
        return 1;
    }
    return 1;
}

/* A new reference to the key of a header name. NULL without an exception: not plain. */
static PyObject *key_of(span name, PyObject *keys) {
    char lower[64];
    Py_ssize_t length = name.end - name.at;
    PyObject *written = bytes(name), *key;
    if (!written) return NULL;
    key = Py_XNewRef(PyDict_GetItemWithError(keys, written));
    Py_DECREF(written);
    if (key || PyErr_Occurred() || length > (Py_ssize_t)sizeof lower || !is_token(name)) return key;
    for (Py_ssize_t i = 0; i < length; i++) lower[i] = Py_TOLOWER(name.at[i]);
    written = PyBytes_FromStringAndSize(lower, length);
    if (!written) return NULL;
    key = PyDict_GetItemWithError(keys, written); /* a compact form in a capital letter */
    if (!key) return PyErr_Occurred() ? (Py_DECREF(written), NULL) : written;
    Py_INCREF(key);
    Py_DECREF(written);
    return key;
}

/* Reads the header lines into fields and lines, and where the values of some are. 1: done, 0: not plain, -1: exception. */
static int read_headers(span head, PyObject *keys, PyObject *fields, PyObject *lines, span values[SINGLE]) {
    while (head.at < head.end) {
        span value, line = before(head, '\r', &head), name = before(line, ':', &value);
        if (head.at < head.end && *head.at++ != '\n') return 0;
        if (name.end == line.end) return 0;
        PyObject *key = key_of(name, keys), *text = key ? bytes(line) : NULL;
        PyObject *field = text ? PyTuple_Pack(2, key, text) : NULL;
        int done = field && !PyList_Append(fields, field) && !PyDict_SetItem(lines, key, text);
        for (int i = 0; done && i < SINGLE; i++) {
            if (strcmp(PyBytes_AS_STRING(key), names[i])) continue;
            if (!values[i].at)
                values[i] = value;
            else
                done = i == VIA; /* any other must be the only one */
            break;
        }
        Py_XDECREF(key);
        Py_XDECREF(text);
        Py_XDECREF(field);
        if (!done) return PyErr_Occurred() ? -1 : 0;
    }
    for (int i = 0; i < REQUIRED; i++)
        if (!values[i].at) return 0;
    return 1;
}

/* The start line into two objects. 0: not plain, or an exception. */
static int read_start(span line, span method, PyObject **first, PyObject **second) {
    span rest, version, uri;
    if (starts(line, "SIP/2.0 ")) {
        line.at += 8;
        span code = before(line, ' ', &rest);
        long status = number(code);
        if (code.end - code.at != 3 || status < 100 || status > 699) return 0;
        *first = PyLong_FromLong(status);
        *second = bytes(rest);
    } else {
        span name = before(line, ' ', &rest);
        uri = before(rest, ' ', &version);
        if (!is(version, "SIP/2.0") || uri.at == uri.end || *uri.at == '<' || !is_token(name)) return 0;
        if (name.end - name.at != method.end - method.at || memcmp(name.at, method.at, name.end - name.at)) return 0;
        *first = bytes(name);
        *second = bytes(uri);
    }
    return *first && *second;
}

/* Everything but the headers, which are there already. NULL without an exception: not plain. */
static PyObject *finish(span start, span body, PyObject *fields, PyObject *lines, const span values[SINGLE]) {
    span method, from_tag, to_tag, digits, sent_by, branch;
    PyObject *first = NULL, *second = NULL, *result = NULL;
    if (values[CONTENT_LENGTH].at) {
        long length = number(strip(values[CONTENT_LENGTH]));
        if (length < 0 || length > body.end - body.at) return NULL;
        body.end = body.at + length;
    }
    digits = before(strip(values[CSEQ]), ' ', &method);
    method = strip(method);
    if (number(digits) < 0 || !is_token(method)) return NULL;
    if (!find_via(values[VIA], &sent_by, &branch)) return NULL;
    if (!find_tag(values[FROM], &from_tag) || !find_tag(values[TO], &to_tag)) return NULL;
    if (read_start(start, method, &first, &second)) {
        span id = strip(values[CALL_ID]);
        int once = PyDict_GET_SIZE(lines) == PyList_GET_SIZE(fields);
        result = Py_BuildValue(
            "OOOOy#ly#y#y#y#y#y#", first, second, fields, once ? lines : Py_None, body.at, body.end - body.at,
            number(digits), method.at, method.end - method.at, id.at, id.end - id.at, from_tag.at,
            from_tag.end - from_tag.at, to_tag.at, to_tag.end - to_tag.at, sent_by.at, sent_by.end - sent_by.at,
            branch.at, branch.end - branch.at);
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
    return result;
}

static PyObject *scan(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    if (count != 2 || !PyBytes_CheckExact(arguments[0]) || !PyDict_CheckExact(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "scan(bytes, dict)");
        return NULL;
    }
    span all = {PyBytes_AS_STRING(arguments[0]), PyBytes_AS_STRING(arguments[0]) + PyBytes_GET_SIZE(arguments[0])};
    const char *end = memmem(all.at, all.end - all.at, "\r\n\r\n", 4);
    if (!end || end == all.at) Py_RETURN_NONE;
    for (const char *c = all.at; c < end; c++) /* CR is looked at later; LF may only follow it */
        if ((unsigned char)*c < ' ' && *c != '\t' && *c != '\r' && (*c != '\n' || c == all.at || c[-1] != '\r'))
            Py_RETURN_NONE;
    span head, start = before((span){all.at, end}, '\r', &head), values[SINGLE] = {{0}};
    if (head.at == end || *head.at++ != '\n') Py_RETURN_NONE;
    PyObject *fields = PyList_New(0), *lines = PyDict_New(), *result = NULL;
    if (fields && lines && read_headers(head, arguments[1], fields, lines, values) > 0)
        result = finish(start, (span){end + 4, all.end}, fields, lines, values);
    Py_XDECREF(fields);
    Py_XDECREF(lines);
    if (!result && !PyErr_Occurred()) Py_RETURN_NONE;
    return result;
}

static PyMethodDef methods[] = {{"scan", (PyCFunction)(void (*)(void))scan, METH_FASTCALL, NULL}, {NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_scan", NULL, 0, methods};

PyMODINIT_FUNC PyInit__scan(void) { return PyModuleDef_Init(&definition); }
