/* Calibration files: JSON, one for each model, under the data folder. */
#ifndef GALEN_ASSIST_CALIBRATION_H
#define GALEN_ASSIST_CALIBRATION_H

#include <jansson.h>

#include "assist/fit.h"

/** The folder of the files, or, with a name, a file in it. Errors  NOT_FOUND neither XDG_DATA_HOME nor HOME; RANGE cap. */
galen_status calibration_path(const char *name, char *out, size_t cap, galen_error *err);

/** Errors  FORMAT with what is wrong; *out is then the default. name is for the message. */
galen_status calibration_parse(const char *bytes, size_t n, const char *name, galen_calibration *out, galen_error *err);

/** The file's content. raw: the same held-out cases without calibration. NULL without memory. */
json_t *calibration_json(const galen_calibration *k, const fit_report *held_out, const fit_report *raw, int32_t n_fit,
                         const char *model_name, const char *cases_sha256);

/** {"value", "low", "high"} of each measure. */
json_t *calibration_report(const fit_report *r);

/** Write bytes as path: a temporary file beside it, then renamed, so that it is whole or not there. Folders are made.
 *  Errors  IO; NOMEM. */
galen_status calibration_write(const char *path, const char *bytes, size_t n, galen_error *err);

#endif
