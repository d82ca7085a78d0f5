# The plan of a trainer: its recipe, and all memory that a step needs, laid out once.

cdef enum:
    MOST_ROWS = 2048  # of a workspace; larger batches accumulate their gradient


cdef int _row(tuple table, object name, void **custom, int itemsize) except -1:
    """The row of a name; of a user's function the row after the last, and its address."""
    if isinstance(name, str):
        return table.index(name)
    custom[0] = <void *><size_t>name.address(itemsize)
    return len(table)


cdef Recipe _recipe(object loss, object optimizer, int itemsize) except *:
    cdef Recipe recipe
    memset(&recipe, 0, sizeof(Recipe))
    if loss is not None:
        recipe.loss = _row(LOSSES, loss.name, &recipe.custom, itemsize)
        recipe.parameter = loss.parameter
        recipe.fused, recipe.per_row = loss.fused, loss.per_row
    if optimizer is not None:
        recipe.optimizer = _optimizer_rows.index(f"{optimizer.name}/{optimizer.moments}")
        recipe.nesterov = optimizer.nesterov
        recipe.epsilon_hat = optimizer.epsilon_hat
        recipe.rate_in_velocity = optimizer.rate_in_velocity
        recipe.l2_by_weight = optimizer.l2_by_weight
        recipe.momentum = optimizer.momentum
        recipe.beta_1 = optimizer.beta_1
        recipe.beta_2 = optimizer.beta_2
        recipe.epsilon = optimizer.epsilon
        recipe.weight_decay = optimizer.weight_decay
        recipe.l2 = optimizer.l2
        recipe.clip_norm = optimizer.clip_norm
    return recipe


cdef int _lay_plan(
    Plan *plan, CNetwork *net, const Instance *instance, int64_t batch_size, int threads
) except -1:
    """All memory of a zeroed plan; what failed half-way is freed by _free_plan."""
    cdef int64_t slab = min(max(-(-batch_size // BLOCK) * BLOCK, 64), MOST_ROWS)
    cdef int64_t l, stride = instance.block_stride(slab)
    plan.network, plan.slab, plan.space.stride = net, slab, stride
    in_blocks = [net.layers[l].in_blocks for l in range(net.depth)]
    out_blocks = [net.layers[l].out_blocks for l in range(net.depth)]
    blocks = in_blocks[:1] + out_blocks
    total = (sum(blocks) + sum(out_blocks)) * stride * instance.itemsize
    plan.space.activation = <void **>calloc(2 * (net.depth + 1), sizeof(void *))
    plan.scratch = <void **>calloc(threads, sizeof(void *))
    if plan.space.activation == NULL or plan.scratch == NULL:
        raise MemoryError("cannot allocate the plan")
    plan.space.delta = plan.space.activation + net.depth + 1
    cdef char *at = <char *>_allocate(total)
    for l in range(net.depth + 1):
        plan.space.activation[l] = at
        at += blocks[l] * stride * instance.itemsize
    for l in range(1, net.depth + 1):
        plan.space.delta[l] = at
        at += blocks[l] * stride * instance.itemsize
    for t in range(threads):
        plan.scratch[t] = _allocate(instance.scratch_size(net) * instance.itemsize)
    plan.space.rows = <const void **>_allocate((slab + BLOCK) * sizeof(void *))
    plan.row_loss = <double *>_allocate(slab // BLOCK * sizeof(double))
    return _lay_tiles(plan, instance.panels, threads)


cdef int _lay_tiles(Plan *plan, int panels, int threads) except -1:
    """Every tile of every layer. Each thread's share is a few layers, cut across their longer
    side, so that it reads least of what the others wrote; 4 x 4 neighbours together share
    panels in the cache."""
    cdef const CNetwork *net = plan.network
    cdef const Layer *layer
    cdef int64_t l, i, o, i0, o0, thread, rows, columns, top, bottom, left, right
    cdef int64_t total = 0, number, count = 0
    for l in range(net.depth):
        total += net.layers[l].in_blocks * _tiles_across(&net.layers[l], panels)
    plan.tiles = <Tile *>_allocate(total * sizeof(Tile))
    plan.tile_norm = <double *>_allocate(total * sizeof(double))
    plan.tile_squares = <double *>_allocate(total * sizeof(double))
    plan.tile_count = total
    for thread in range(threads):
        number = 0
        for l in range(net.depth):
            layer = &net.layers[l]
            rows, columns = layer.in_blocks, _tiles_across(layer, panels)
            top, bottom, left, right = 0, rows, 0, columns
            if rows > columns:
                top = _line(total * thread // threads - number, rows, columns)
                bottom = _line(total * (thread + 1) // threads - number, rows, columns)
            else:
                left = _line(total * thread // threads - number, columns, rows)
                right = _line(total * (thread + 1) // threads - number, columns, rows)
            for o0 in range(left, right, 4):
                for i0 in range(top, bottom, 4):
                    for o in range(o0, min(o0 + 4, right)):
                        for i in range(i0, min(i0 + 4, bottom)):
                            plan.tiles[count] = Tile(
                                l, o * panels, i, min(panels, layer.out_blocks - o * panels),
                                number + o * rows + i,
                            )
                            count += 1
            number += rows * columns
    return 0


cdef inline int64_t _tiles_across(const Layer *layer, int panels) noexcept:
    return (layer.out_blocks + panels - 1) // panels


cdef inline int64_t _line(int64_t tiles, int64_t lines, int64_t length) noexcept:
    """The line of so many that is nearest to a tile's place."""
    return min(max((2 * tiles + length) // (2 * length), 0), lines)


cdef void _free_plan(Plan *plan, int threads) noexcept:
    if plan.space.activation != NULL:
        free(plan.space.activation[0])
    free(plan.space.activation)
    if plan.scratch != NULL:
        for t in range(threads):
            free(plan.scratch[t])
    free(plan.scratch)
    free(plan.space.rows)
    free(plan.row_loss)
    free(plan.tiles)
    free(plan.tile_norm)
    free(plan.tile_squares)
    free(plan.gradient)
