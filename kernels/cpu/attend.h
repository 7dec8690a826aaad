/*
 * The text of attention's inner loops, over `wide`: the variant's widest vector (wide_*.h), which
 * hot.h's other loops cannot use, since there eight partial sums are the contract. Keys and values
 * are read as the cache has them; a register of them meets several queries. Contract: variants.h.
 */

typedef wide wide_loader(const void *p);

/* A few lines at a time, between sums: there is room for 24 that are on their way. */
INLINE void fetch(const uint8_t *at, size_t bytes) {
    for (size_t i = 0; at && i < bytes; i += 64) __builtin_prefetch(at + i, 0, 2);
}

/* ---- queries by keys ---- */

#define SCORE_KEYS 4 /* keys at once; SCORE_ROWS queries */

/* n_q queries (a constant) by 4 keys, of which n_keys are there: the last one stands in for the
 * others. A sum's lanes are added in order, then across. */
INLINE void score_tile(wide_loader *load, size_t value_bytes, const uint8_t *keys, int n_keys,
                       struct rows q, int n_q, int n, float *s, size_t stride) {
    const size_t bytes = (size_t)n * value_bytes;
    wide acc[SCORE_ROWS][SCORE_KEYS], k[SCORE_KEYS];
    UNROLL for (int j = 0; j < n_q; j++) {
        UNROLL for (int i = 0; i < SCORE_KEYS; i++) {
            acc[j][i] = wide_zero();
        }
    }
    for (int at = 0; at < n; at += WIDE) {
        UNROLL for (int i = 0; i < SCORE_KEYS; i++) {
            size_t which = (size_t)(i < n_keys ? i : n_keys - 1);
            k[i] = load(keys + which * bytes + (size_t)at * value_bytes);
        }
        UNROLL for (int j = 0; j < n_q; j++) {
            wide x = wide_load(row_at(q, j) + at);
            UNROLL for (int i = 0; i < SCORE_KEYS; i++) {
                acc[j][i] = wide_fma(k[i], x, acc[j][i]);
            }
        }
    }
    UNROLL for (int j = 0; j < n_q; j++) {
        wide_sum4(acc[j][0], acc[j][1], acc[j][2], acc[j][3], s + (size_t)j * stride);
    }
}

INLINE void score_rows(wide_loader *load, size_t value_bytes, const uint8_t *keys, int n_keys,
                       struct rows q, int n_q, int n, float *s, size_t stride,
                       const uint8_t *next) {
    const size_t bytes = (size_t)n * value_bytes;
    int i = 0;
    for (; i + SCORE_KEYS <= n_keys; i += SCORE_KEYS) {
        if (next) fetch(next + (size_t)i * bytes, SCORE_KEYS * bytes);
        score_tile(load, value_bytes, keys + (size_t)i * bytes, SCORE_KEYS, q, n_q, n, s + i,
                   stride);
    }
    if (i == n_keys) return;
    if (next) fetch(next + (size_t)i * bytes, (size_t)(n_keys - i) * bytes);
    score_tile(load, value_bytes, keys + (size_t)i * bytes, n_keys - i, q, n_q, n, s + i, stride);
}

/* As many tiles as needed, of like sizes. */
INLINE int rows_of_tile(int n_rows, int most) {
    int n_tiles = (n_rows + most - 1) / most;
    return (n_rows + n_tiles - 1) / n_tiles;
}

#define SCORE_CASE(rows)                                                                           \
    case rows:                                                                                     \
        score_rows(load, value_bytes, keys, n_keys, some, rows, n, to, stride, j ? NULL : next);   \
        break;

INLINE void score_all(wide_loader *load, size_t value_bytes, const void *keys, int n_keys,
                      struct rows q, int n, float *s, size_t stride, const void *next) {
    int at_once = rows_of_tile(q.n, SCORE_ROWS);
    for (int j = 0; j < q.n; j += at_once) {
        struct rows some = {row_at(q, j), q.stride, q.n - j < at_once ? q.n - j : at_once};
        float *to = s + (size_t)j * stride;
        switch (some.n) {
            SCORE_CASE(1)
#if SCORE_ROWS > 1
            SCORE_CASE(2)
#endif
#if SCORE_ROWS > 2
            SCORE_CASE(3)
            SCORE_CASE(4)
            SCORE_CASE(5)
            SCORE_CASE(6)
#endif
        }
    }
}

/* ---- weights by values ---- */

#define MIX_VECS 4

/* n_rows rows of p (a constant) by n_vecs vectors (a constant) of each key's values */
INLINE void mix_tile(wide_loader *load, size_t value_bytes, struct rows p, int n_rows,
                     const uint8_t *values, size_t value_stride, int n_keys, int n_vecs, float *out,
                     size_t stride, const uint8_t *next) {
    wide acc[MIX_ROWS][MIX_VECS], v[MIX_VECS];
    UNROLL for (int j = 0; j < n_rows; j++) {
        UNROLL for (int i = 0; i < n_vecs; i++) {
            acc[j][i] = wide_load(out + (size_t)j * stride + i * WIDE);
        }
    }
    for (int k = 0; k < n_keys; k++) {
        if (next) fetch(next + (size_t)k * value_stride, value_stride);
        UNROLL for (int i = 0; i < n_vecs; i++) {
            v[i] = load(values + (size_t)k * value_stride + (size_t)(i * WIDE) * value_bytes);
        }
        UNROLL for (int j = 0; j < n_rows; j++) {
            wide weight = wide_set(row_at(p, j)[k]);
            UNROLL for (int i = 0; i < n_vecs; i++) {
                acc[j][i] = wide_fma(weight, v[i], acc[j][i]);
            }
        }
    }
    UNROLL for (int j = 0; j < n_rows; j++) {
        UNROLL for (int i = 0; i < n_vecs; i++) {
            wide_store(out + (size_t)j * stride + i * WIDE, acc[j][i]);
        }
    }
}

INLINE void mix_rows(wide_loader *load, size_t value_bytes, struct rows p, int n_rows,
                     const uint8_t *values, int n_keys, int n, float *out, size_t stride,
                     const uint8_t *next) {
    size_t value_stride = (size_t)n * value_bytes;
    int i = 0;
    for (; i + MIX_VECS * WIDE <= n; i += MIX_VECS * WIDE)
        mix_tile(load, value_bytes, p, n_rows, values + (size_t)i * value_bytes, value_stride,
                 n_keys, MIX_VECS, out + i, stride, i ? NULL : next);
    for (; i < n; i += WIDE)
        mix_tile(load, value_bytes, p, n_rows, values + (size_t)i * value_bytes, value_stride,
                 n_keys, 1, out + i, stride, i ? NULL : next);
}

#define MIX_CASE(rows)                                                                             \
    case rows:                                                                                     \
        mix_rows(load, value_bytes, some, rows, values, n_keys, n, to, stride, j ? NULL : next);   \
        break;

INLINE void mix_all(wide_loader *load, size_t value_bytes, struct rows p, const void *values,
                    int n_keys, int n, float *out, size_t stride, const void *next) {
    int at_once = rows_of_tile(p.n, MIX_ROWS);
    for (int j = 0; j < p.n; j += at_once) {
        struct rows some = {row_at(p, j), p.stride, p.n - j < at_once ? p.n - j : at_once};
        float *to = out + (size_t)j * stride;
        switch (some.n) {
            MIX_CASE(1)
#if MIX_ROWS > 1
            MIX_CASE(2)
            MIX_CASE(3)
#endif
#if MIX_ROWS > 3
            MIX_CASE(4)
            MIX_CASE(5)
            MIX_CASE(6)
#endif
        }
    }
}

/* ---- of each format that a cache can have ---- */

#define FOR_KV_FORMATS(FORMAT) FORMAT(F32) FORMAT(F16) FORMAT(BF16)

#define KV_FUNCTIONS(id)                                                                           \
    static void score_##id(const void *keys, int n_keys, struct rows q, int n, float *s,           \
                           size_t stride, const void *next) {                                      \
        score_all(wide_load_##id, sizeof(struct block_##id), keys, n_keys, q, n, s, stride, next); \
    }                                                                                              \
    static void mix_##id(struct rows p, const void *values, int n_keys, int n, float *out,         \
                         size_t stride, const void *next) {                                        \
        mix_all(wide_load_##id, sizeof(struct block_##id), p, values, n_keys, n, out, stride,      \
                next);                                                                             \
    }
FOR_KV_FORMATS(KV_FUNCTIONS)

/* ---- weights of scores ---- */

/* exp(x) to about one unit in the last place; infinity above 88.7 and, so that no subnormal slows
 * what follows, 0 below -86.6. Range reduction and polynomial: Cephes expf (S. Moshier). */
INLINE wide wide_exp(wide x) {
    wide bounded = wide_max(wide_set(-87), wide_min(wide_set(89), x));
    wide n = wide_round(wide_mul(bounded, wide_set(1.44269504088896341f)));
    wide r = wide_fma(n, wide_set(-0.693359375f), bounded);
    r = wide_fma(n, wide_set(2.12194440e-4f), r);
    wide p = wide_set(1.9875691500e-4f);
    p = wide_fma(p, r, wide_set(1.3981999507e-3f));
    p = wide_fma(p, r, wide_set(8.3334519073e-3f));
    p = wide_fma(p, r, wide_set(4.1665795894e-2f));
    p = wide_fma(p, r, wide_set(1.6666665459e-1f));
    p = wide_fma(p, r, wide_set(5.0000001201e-1f));
    p = wide_fma(p, wide_mul(r, r), wide_add(r, wide_set(1)));
    /* n may be 128: half the power, twice */
    wide half = wide_pow2(wide_sub(n, wide_set(1)));
    return wide_zero_below(wide_mul(wide_mul(p, half), wide_set(2)), x, -86.6f);
}

static void softmax(float *s, int n, float scale, float *max, float *sum) {
    int n_padded = (n + WIDE - 1) / WIDE * WIDE;
    for (int i = n; i < n_padded; i++) s[i] = -INFINITY;
    wide largest = wide_set(-INFINITY), factor = wide_set(scale);
    for (int i = 0; i < n_padded; i += WIDE) {
        wide scaled = wide_mul(wide_load(s + i), factor);
        wide_store(s + i, scaled);
        largest = wide_max(scaled, largest);
    }
    *max = wide_largest(largest);
    wide base = wide_set(*max == -INFINITY ? 0 : *max), total = wide_zero();
    for (int i = 0; i < n_padded; i += WIDE) {
        wide e = wide_exp(wide_sub(wide_load(s + i), base));
        wide_store(s + i, e);
        total = wide_add(total, e);
    }
    float sums[4];
    wide_sum4(total, total, total, total, sums);
    *sum = sums[0];
}
