#include "driver/qmp-message.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* jansson recurses once per level, so the depth is bounded before it sees the text. Brackets inside strings do not
 * count; a text that is not JSON may be judged wrongly here and is refused by the parser then. */
static bool depth_is_fine(const char *line, size_t length) {
        size_t depth = 0;
        bool in_string = false;

        for (size_t i = 0; i < length; i++) {
                char c = line[i];

                if (in_string) {
                        if (c == '\\')
                                i++;
                        else if (c == '"')
                                in_string = false;
                } else if (c == '"')
                        in_string = true;
                else if ((c == '{' || c == '[') && ++depth > QMP_DEPTH_MAX)
                        return false;
                else if ((c == '}' || c == ']') && depth > 0)
                        depth--;
        }
        return true;
}

static uint64_t message_id(json_t *root) {
        json_int_t id = json_integer_value(json_object_get(root, "id"));

        return id > 0 ? (uint64_t)id : 0;
}

static int classify(json_t *root, QmpMessage *m) {
        json_t *value;

        if ((value = json_object_get(root, "return"))) {
                m->kind = QMP_MESSAGE_RETURN;
                m->id = message_id(root);
                m->data = value;
                return 0;
        }
        if ((value = json_object_get(root, "error"))) {
                m->kind = QMP_MESSAGE_ERROR;
                m->id = message_id(root);
                m->text = json_string_value(json_object_get(value, "desc"));
                return m->text ? 0 : -EBADMSG;
        }
        if ((value = json_object_get(root, "event"))) {
                m->kind = QMP_MESSAGE_EVENT;
                m->name = json_string_value(value);
                m->data = json_object_get(root, "data");
                return m->name && (!m->data || json_is_object(m->data)) ? 0 : -EBADMSG;
        }
        if (json_is_object(json_object_get(root, "QMP"))) {
                m->kind = QMP_MESSAGE_GREETING;
                return 0;
        }
        return -EBADMSG;
}

int qmp_message_parse(const char *line, size_t length, QmpMessage *ret) {
        QmpMessage m = { .kind = QMP_MESSAGE_KIND_COUNT };
        json_error_t error;

        if (length > QMP_LINE_MAX || !depth_is_fine(line, length))
                return -EBADMSG;
        m.root = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
        if (!m.root)
                return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
        int r = classify(m.root, &m);
        if (r < 0) {
                json_decref(m.root);
                return r;
        }
        *ret = m;
        return 0;
}

void qmp_message_done(QmpMessage *m) {
        json_decref(m->root);
        memset(m, 0, sizeof *m);
}
