/* bands.h - floor 4: a VAE in bands of rows: the plan that fits into so much memory, and the forward function by it.
 * bands.c explains. */
#ifndef SD_BANDS_H
#define SD_BANDS_H

#include "net.h"

/* The steps from .. to - 1 of a network. rows 0: their tensors are whole. Else the input is taken so many rows at a
 * time, and only it and the result are ever whole. */
typedef struct sd_piece {
    int from, to, rows;
    size_t bytes;        /* of working memory while it is computed, what stays from before included */
    double work;         /* multiplications, with all that is computed more than once */
} sd_piece;

typedef struct sd_bands {
    sd_piece *piece;     /* NULL: no plan, the network is computed whole */
    int n, in_bands;     /* pieces; those of them in bands */
    size_t bytes;        /* of working memory, the network's input included */
    size_t whole_bytes;  /* of the whole network */
    double work, whole;  /* multiplications, and those of the whole network; 0 without a plan */
    /* Called now and then with the share of the work that is done; may be NULL. */
    void (*progress)(void *user, double share);
    void *user;
    double done;         /* work that is done */
} sd_bands;

/* The plan with the least work whose working memory is at most `budget`; if there is none, the one with the least
 * memory. x [N,H,W,C]: of the network's input; a plan in bands is for N = 1. r: of the backend that will compute; only
 * its descriptions are used, and what one tensor of its may have: a larger one does not fit any budget below SIZE_MAX.
 * What is whole needs no plan: then piece stays NULL. */
sd_status sd_bands_plan(sd_bands *b, const sd_run *r, const sd_net *n, const int64_t x[4], size_t budget, sd_error *e);
void sd_bands_free(sd_bands *b);

/* The network's result for x [N,H,W,C], one picture if there is a plan. It has the same bits by any plan. */
sd_tensor sd_bands_forward(sd_run *r, const sd_net *n, sd_bands *b, sd_tensor x);
/* ---- bands_chain.c: some steps as a chain of rows
 * So much more work is done. */
void sd_bands_did(const sd_run *r, sd_bands *b, double work);
enum { SD_CHAIN_MOST = 96 };

/* One tensor of a chain: a node. Node 0 is the input. */
typedef struct sd_link {
    int in, add;                 /* the nodes that it is made of: its rows come from `in`; those of `add` are added, or
                                  * their shortcut is; -1: none */
    const sd_wb *conv, *shortcut;   /* weights; conv NULL: only normed */
    sd_conv how;
    int norm;                    /* the group norm (and SiLU) that its rows go through last; -1: none */
    int64_t H, W, C;
    bool whole;                  /* it has room for all rows: the input and the result */
    /* The rows low .. high - 1 are there; `room` is the most that were there at once, */
    int64_t low, high, room, most;   /* ... and `most` the most that were computed at once */
    sd_tensor window;            /* [1,room,W,C], or all rows */
    double work;                 /* multiplications for all rows */
} sd_link;

typedef struct sd_chain {
    const sd_net_dims *dims;
    sd_link link[SD_CHAIN_MOST];
    int n;
    const sd_wb *norm[SD_CHAIN_MOST];   /* gain and bias */
    int normed[SD_CHAIN_MOST];   /* the node that is normed, before the norm */
    int norms;
    int64_t rows;                /* of the input that are taken at a time */
    int64_t gap;                 /* bytes by which the input must lie above a result that replaces it */
    size_t windows, widest;      /* bytes besides the input and the result; of the largest tensor among them */
    double once, work;           /* multiplications of one pass over everything, and of all passes */
} sd_chain;

/* Makes a chain of the steps from .. to - 1 and finds its sizes; dim: of the input. False: these steps are no chain. */
bool sd_chain_make(sd_chain *c, const sd_run *r, const sd_net *n, int from, int to, const int64_t dim[4], int64_t rows);
/* x -> the chain's result, whole. own: x lies at `mark` in the arena, and the result may replace it. */
sd_tensor sd_chain_forward(sd_run *r, sd_chain *c, sd_tensor x, size_t mark, bool own, sd_bands *b);

#endif
