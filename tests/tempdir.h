/* tempdir.h - a directory for a test's files, made before a group and removed after it. */
#ifndef TEMPDIR_H
#define TEMPDIR_H

#include <stddef.h>

/* cmocka group fixtures */
int temp_make(void **state);
int temp_remove(void **state);

const char *temp_path(const char *name);   /* one of a few buffers that take turns */
void temp_write(const char *name, const void *data, size_t n);
char *temp_read(const char *name, size_t *n);   /* NUL appended; free() it */
int temp_files(void);     /* entries in the directory */
void temp_clear(void);    /* removes them */

/* From now on writing fails, as on a full disk, when a file grows beyond `bytes`; 0 ends it. */
void temp_disk_limit(size_t bytes);

/* Makes a locale whose decimal separator is no point the program's, in this directory where the system has the sources.
 * Its name; NULL if there is none, and the locale is "C". */
const char *temp_comma_locale(void);

#endif
