/* Records on first use, replays afterwards. */
#include "engine/forward/graph_cache.h"

/* Rows of class i: 1, then 2 and 3 times the powers of two. */
static int class_rows(int i) {
    if (i == 0) return 1;
    return (i % 2 == 1 ? 2 : 3) << ((i - 1) / 2);
}

static int class_of(int n_rows) {
    int i = 0;
    while (class_rows(i) < n_rows) i++;
    return i;
}

int graph_rows(int n) {
    return class_rows(class_of(n));
}

void graph_cache_init(struct graph_cache *g, const struct model *model) {
    *g = (struct graph_cache){.model = *model};
}

void graph_cache_release(struct graph_cache *g) {
    struct device *device = g->model.device;
    for (int i = 0; i < MAX_GRAPHS; i++)
        if (g->graphs[i].recording) device->recording_free(device, g->graphs[i].recording);
    *g = (struct graph_cache){0};
}

static enum op_status record(struct graph_cache *g, struct graph *graph,
                             const struct op_batch *batch) {
    struct device *device = g->model.device;
    graph->batch = *batch;
    enum op_status status = device->record_begin(device);
    if (status != OP_OK) return status;
    status = forward(&g->model, &graph->batch);
    enum op_status end = device->record_end(device, &graph->recording);
    if (status == OP_OK) return end;
    if (graph->recording) device->recording_free(device, graph->recording);
    graph->recording = NULL; /* it lacks what comes after the op that failed */
    return status;
}

enum op_status graph_cache_run(struct graph_cache *g, struct batch *batch) {
    struct device *device = g->model.device;
    const struct activations *a = g->model.activations;
    struct graph *graph = NULL;
    if (batch_is_decode(batch) && batch->n_rows <= MAX_GRAPH_ROWS && !g->is_off) {
        graph = &g->graphs[class_of(batch->n_rows)];
        batch_pad(batch, graph_rows(batch->n_rows));
    }
    enum op_status status = activations_upload(a, batch);
    const struct op_batch op = batch_view(batch, a->batch);
    if (status != OP_OK) return status;
    if (graph && !graph->recording) {
        status = record(g, graph, &op);
        g->is_off = status == OP_NOT_SUPPORTED;
        if (status != OP_OK && !g->is_off) return status;
    }
    if (graph && graph->recording) return device->replay(device, graph->recording);
    return forward(&g->model, &op);
}
