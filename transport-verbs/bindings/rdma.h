/* What the bindings are made from. Read by `generate` and by the layout test; compiled into nothing. */
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

/* The headers hide these functions behind macros of the same name; src/sys/inline.rs stands in for the macros. */
#undef ibv_query_port
#undef ibv_reg_mr
