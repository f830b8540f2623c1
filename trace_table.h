/* trace_table.h - floor 3: tables of what the tensors of a trace are like, or of their hashes. */
#ifndef SD_TRACE_TABLE_H
#define SD_TRACE_TABLE_H

#include "trace.h"
#include "weights_values.h"

typedef enum sd_table_form { SD_TABLE_TEXT, SD_TABLE_CSV, SD_TABLE_JSON, SD_TABLE_HASHES } sd_table_form;

/* What the processor and the system say is asked once: that may take longer than a small tensor. */
typedef struct sd_table { sd_table_form form; sd_text text; size_t rows; const sd_kern *kern; int threads; } sd_table;

void sd_table_begin(sd_table *t, sd_table_form form);
/* A row of a tensor in any type that we have: mean, standard deviation (divided by n), extremes and L2 norm of the
 * numbers that are finite, and how many are not, are zero or are subnormal; or its SHA-256. */
sd_status sd_table_add(sd_table *t, const sd_entry *x, sd_error *e);
void sd_table_end(sd_table *t);   /* t->text is the table */

/* The sink that writes such a table: by the ending of the path's name JSON, CSV, else a text. See sd_trace_put. */
sd_status sd_trace_to_table(sd_trace **out, const char *filter, const char *path, bool hashes, sd_error *e);

#endif
