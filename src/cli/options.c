/* The two tables and the parser that reads them. A new option is one row and one field of cli_args. */
#include "cli/options.h"

#include <stdlib.h>
#include <string.h>

#include "cli/numbers.h"

enum {
    V_DIAGNOSE = 1,
    V_COMPLETE = 2,
    V_CHAT = 4,
    V_SHOW = 8,
    V_TOKENIZE = 16,
    V_LOGITS = 32,
    V_SYNTH = 64,
    V_VERSION = 128,
    V_HELP = 256,
    V_COMPLETIONS = 512,
    V_PLAN = 1 << 10,
    V_TUNE = 1 << 11,
    V_BENCH = 1 << 12,
    V_DOCTOR = 1 << 13,
    V_EXPLAIN = 1 << 14,
    V_MONITOR = 1 << 15,
    V_PS = 1 << 16,
    V_STATS = 1 << 17,
    V_HISTORY = 1 << 18,
    V_AUDIT = 1 << 19,
    V_CALIBRATE = 1 << 20,
    V_SERVE = 1 << 21,
    V_TRIAGE = 1 << 22,
    V_CODES = 1 << 23,
    V_EVAL = 1 << 24,
    V_ALL = (1 << 25) - 1,
    V_WRITES = V_DIAGNOSE | V_COMPLETE | V_CHAT,                            /* samples text           */
    V_COMPUTES = V_WRITES | V_LOGITS | V_CALIBRATE | V_EVAL,                /* opens a session        */
    V_PLACES = V_COMPUTES | V_PLAN | V_SERVE | V_BENCH | V_TUNE | V_DOCTOR, /* puts layers somewhere  */
    V_MODELS = V_PLACES | V_SHOW | V_TOKENIZE,                              /* opens a model          */
    V_SAMPLES = V_COMPLETE | V_CHAT,                                        /* sampling is the user's */
    V_STORE = V_HISTORY | V_AUDIT | V_STATS,                                /* about the database     */
    V_KEEPS = V_DIAGNOSE | V_COMPLETE | V_CHAT | V_BENCH | V_TUNE,          /* writes to the database */
    V_JSON = V_STORE | V_PLAN | V_BENCH | V_TUNE | V_PS | V_MONITOR | V_DOCTOR | V_EXPLAIN | V_DIAGNOSE | V_CALIBRATE |
             V_COMPLETE | V_SHOW | V_TOKENIZE | V_VERSION | V_LOGITS | V_SYNTH | V_CHAT | V_TRIAGE | V_CODES | V_EVAL,
    V_CASES = V_DIAGNOSE | V_CALIBRATE | V_EVAL, /* the assistant alone */
    V_READS_TEXT = V_DIAGNOSE | V_COMPLETE | V_TOKENIZE | V_TRIAGE,
};

#define MODEL_HELP                                                                                                               \
    "A MODEL is a path to a GGUF file, or a name in the data folder ($XDG_DATA_HOME or ~/.local/share, then galen/models), "     \
    "with or without .gguf. With no MODEL: the environment's GALEN_MODEL, then the demo model that `make demo` puts there."

const verb_row cli_verbs[] = {
    {"diagnose", "[MODEL] [SYMPTOMS]", "five possible conditions for a description of symptoms, then five questions",
     "Reads the symptoms from the argument, from --file or from standard input. Shows red flags at once, then five possible "
     "conditions with the model's own probability for each, and five follow-up questions; with --interactive it asks them one by "
     "one and ranks anew after each answer. For licensed professionals, education and research; it does not "
     "diagnose, and it is not for emergencies. " MODEL_HELP,
     V_DIAGNOSE, 2, verb_diagnose},
    {"triage", "[SYMPTOMS]", "red flags in a description of symptoms, and how soon to act; no model is needed",
     "Reads the symptoms from the argument, from --file or from standard input. Lists the red flags that rules recognise, each "
     "with "
     "the words it rests on and the guideline behind it, the level (self_care, consultation, consultation_24, emergency, "
     "emergency_ambulance) and questions that would rule a red flag out. No flag does not mean no danger.",
     V_TRIAGE, 1, verb_triage},
    {"codes", "NAME", "the ICD-10-CM code of a condition's name",
     "Looks a condition up in the official table and prints the code that a coder takes for the bare name, or \"no match\" when "
     "nothing "
     "fits well enough. Understands abbreviations (COPD, MI), British spelling, eponyms and a wrong letter.",
     V_CODES, 1, verb_codes},
    {"calibrate", "[MODEL] --cases FILE", "make a model's confidences mean something, from labelled cases",
     "Reads --cases, one JSON object a line: {\"text\": \"what the patient says\", \"diagnosis\": \"Pneumonia\"}, or "
     "AgentClinic's "
     "OSCE form. Half of the cases fit a temperature and a weight, the other half measures them: ECE, Brier, AUROC with 95 % "
     "intervals. The result is kept for this model's SHA-256 and used from then on. Ctrl-C keeps what was done. " MODEL_HELP,
     V_CALIBRATE, 1, verb_calibrate},
    {"eval", "FILE...", "how good it is, measured on labelled cases; also without a model",
     "Reads cases, one JSON object a line: {\"text\": \"...\", \"diagnosis\": \"Pneumonia\", \"tier\": \"urgent\"}, "
     "AgentClinic's OSCE form, or triage vignettes. Reports how often the expected condition is first and among five, by "
     "ICD-10-CM category and by name; whether confidences mean something; what the red flags miss and what they raise for "
     "nothing; how many questions it takes with a patient simulated from the case; and the time, with 95 % intervals. With "
     "--no-model, or where there is no model, red flags and codes alone. Ctrl-C reports what was done; docs/eval.md says how to "
     "read it. " MODEL_HELP,
     V_EVAL, CLI_MAX_POSITIONALS, verb_eval},
    {"complete", "[MODEL]", "continue a text",
     "Continues the prompt given by --prompt, --file or standard input, and writes the new text as it comes. " MODEL_HELP,
     V_COMPLETE, 1, verb_complete},
    {"chat", "[MODEL]", "talk with a model, line by line",
     "Each line is one message. /clear starts anew, /quit or Ctrl-D ends, Ctrl-C stops an answer. "
     "Lines may come from a pipe; then only the answers are written. " MODEL_HELP,
     V_CHAT, 1, verb_chat},
#ifdef GALEN_HAVE_SERVER
    {"serve", "[MODEL]", "a page, the assistant and OpenAI's API over HTTP",
     "Keeps a model loaded and serves many users: the page at /, the assistant under /v1/cases, OpenAI's API under /v1, figures "
     "at /metrics. Only this machine can reach it unless --host says otherwise, and then --api-keys is needed. Ctrl-C or SIGTERM "
     "lets answers under way end; SIGHUP reads the keys again. docs/server.md says more. " MODEL_HELP,
     V_SERVE, 1, verb_serve},
#endif
    {"show", "[MODEL]", "a model's metadata, tensors, size and memory need", "Prints what a GGUF file holds. " MODEL_HELP, V_SHOW,
     1, verb_show},
    {"tokenize", "[MODEL]", "text to token ids",
     "The whole of standard input (or of --file) is the text, byte for byte. Prints a table of ids and pieces, or with --ids a "
     "JSON array of ids. " MODEL_HELP,
     V_TOKENIZE, 1, verb_tokenize},
    {"logits", "[MODEL]", "the logits after each of some tokens, as a .npy file",
     "Evaluates --tokens and writes float32 [n][n_vocab] in NumPy's format (version 1.0, C order). " MODEL_HELP, V_LOGITS, 1,
     verb_logits},
    {"synth", "OUT.gguf", "random weights in a real shape, for benchmarks",
     "Writes a model of random weights with a working tokenizer. The same options give the same bytes.", V_SYNTH, 1, verb_synth},
    {"plan", "[MODEL]", "what would live where, before anything is loaded",
     "Counts weights, KV and work buffers of CPU and GPU byte for byte, says what goes where and why, how fast it should be, and "
     "what other contexts, KV types and quantisations would change. Loads nothing. With --as-card it plans for a card that is "
     "not "
     "here. Exit code 5 when the model cannot fit. " MODEL_HELP,
     V_PLAN, 1, verb_plan},
    {"bench", "[MODEL]", "measure a model's speed; compare with the run before",
     "Measures prompt, generation, generation behind a long context, many requests at once, and loading: medians of repeated "
     "runs "
     "after a warm-up, with a fixed prompt. A model on the GPU is measured on the CPU too. Runs are kept; --compare names what "
     "became "
     "slower beyond the noise (exit code 1). " MODEL_HELP,
     V_BENCH, 1, verb_bench},
    {"tune", "[MODEL]", "measure the best layers on the GPU, threads and batch; keep them",
     "Measures coarsely, then finely around the best: layers on the GPU, threads, rows of a pass, KV type. The choice is kept "
     "for this "
     "model, card, driver and build, and used by every verb that loads the model, unless told otherwise (--no-tune). " MODEL_HELP,
     V_TUNE, 1, verb_tune},
    {"doctor", "[MODEL]", "what may be wrong on this machine, and the command that helps",
     "Looks at processor, memory, disk, GPU, driver, plugin, build tools and model; changes nothing. Each finding has a stable "
     "id: "
     "galen explain ID says more. --token computes a real token on CPU and GPU, which must agree. Exit code 1 when a check "
     "fails. " MODEL_HELP,
     V_DOCTOR, 1, verb_doctor},
    {"explain", "[ID]", "what a check of doctor means; without ID, all checks",
     "Prints what the check looks at and why it matters.", V_EXPLAIN, 1, verb_explain},
    {"ps", "", "the models that are loaded now, where, and how fast",
     "Lists this user's engines: name, size, share on CPU and GPU, context, tokens per second.", V_PS, 0, verb_ps},
    {"monitor", "", "live view of GPU, processor, memory and running engines",
     "GPU use, memory, temperature, power, clocks with what holds them back; processor and memory; each running engine's "
     "placement, "
     "context and tokens per second. q ends. Works without a GPU. Written to a pipe it prints one look after the other.",
     V_MONITOR, 0, verb_monitor},
    {"history", "[WHAT] [...]", "cases that were kept: find, show, export, erase",
     "list (the newest first) - search WORDS - show ID - export ID --to FORMAT - branch ID --turns N: a new case with the first "
     "N "
     "turns - erase ID|all: leaves no trace in the database's files - expire --days N: erases what is older - replay ID: runs "
     "the "
     "case again with its model, seed and parameters and demands identical bytes - settings [NAME VALUE]. "
     "docs/privacy.md says what is kept where.",
     V_HISTORY, CLI_MAX_POSITIONALS, verb_history},
    {"audit", "", "the audit trail: who did what when, without any text",
     "Lists the rows. --verify walks the whole chain and ends with exit code 1 when a row was changed, removed or added.",
     V_AUDIT, 0, verb_audit},
    {"stats", "", "speed over time, by model and device", "Medians and trends of the performance log, which holds no text.",
     V_STATS, 0, verb_stats},
    {"version", "", "the version and how it was built", "Prints the version.", V_VERSION, 0, verb_version},
    {"help", "[VERB]", "this help, or a verb's; --man writes the man page", "Prints help.", V_HELP, 1, verb_help},
    {"completions", "SHELL", "completions for bash, zsh or fish",
     "Prints a script for the shell named. bash: galen completions bash > ~/.local/share/bash-completion/completions/galen - "
     "zsh: galen completions zsh > a folder of $fpath, as _galen - fish: galen completions fish > "
     "~/.config/fish/completions/galen.fish",
     V_COMPLETIONS, 1, verb_completions},
};
const size_t cli_n_verbs = sizeof cli_verbs / sizeof cli_verbs[0];

#define AT(name) offsetof(cli_args, name)
#define INT_MAX_ 2147483647.0

const option_row cli_options[] = {
    {"model", 'm', OPT_STR, "MODEL", "path or name of the model", NULL, 0, 0, AT(model), V_MODELS | V_HISTORY},
    {"prompt", 'p', OPT_STR, "TEXT", "the text to continue", NULL, 0, 0, AT(prompt), V_COMPLETE},
    {"file", 'f', OPT_STR, "PATH", "read the text from a file; - is standard input", NULL, 0, 0, AT(file), V_READS_TEXT},
    {"system", 0, OPT_STR, "TEXT", "the system message of the conversation", NULL, 0, 0, AT(system), V_CHAT},
    {"n-predict", 'n', OPT_INT, "N",
     "write at most N tokens; -1: until the context is full (default: complete 128, chat and grammars 512)", NULL, -1, INT_MAX_,
     AT(n_predict), V_SAMPLES},
    {"temp", 't', OPT_FLOAT, "T", "temperature; 0 takes the likeliest token (default 0.8)", NULL, 0, 100, AT(temperature),
     V_SAMPLES},
    {"top-k", 0, OPT_INT, "K", "choose among the K likeliest; 0: off (default 40)", NULL, 0, INT_MAX_, AT(top_k), V_SAMPLES},
    {"top-p", 0, OPT_FLOAT, "P", "choose among the likeliest that make up P; 1: off (default 0.95)", NULL, 0, 1, AT(top_p),
     V_SAMPLES},
    {"min-p", 0, OPT_FLOAT, "P", "drop what is below P times the likeliest; 0: off (default 0.05)", NULL, 0, 1, AT(min_p),
     V_SAMPLES},
    {"repeat-penalty", 0, OPT_FLOAT, "X", "divide the logits of tokens already used; 1: off (default 1)", NULL, 0.01, 100,
     AT(repeat_penalty), V_SAMPLES},
    {"presence-penalty", 0, OPT_FLOAT, "X", "subtract X from tokens already used (default 0)", NULL, -100, 100,
     AT(presence_penalty), V_SAMPLES},
    {"frequency-penalty", 0, OPT_FLOAT, "X", "subtract X for each use of a token (default 0)", NULL, -100, 100,
     AT(frequency_penalty), V_SAMPLES},
    {"penalty-last-n", 0, OPT_INT, "N", "tokens that the penalties look back at; -1: all (default 64)", NULL, -1, INT_MAX_,
     AT(last_n), V_SAMPLES},
    {"logit-bias", 0, OPT_LIST, "ID=V", "add V to the logit of token ID, -inf forbids it; may be repeated", NULL, 0, 0, AT(bias),
     V_SAMPLES},
    {"stop", 0, OPT_LIST, "TEXT", "end before this text; may be repeated", NULL, 0, 0, AT(stop), V_SAMPLES},
    {"grammar", 0, OPT_STR, "FILE", "write what this grammar admits (GBNF, as llama.cpp's); - is standard input", NULL, 0, 0,
     AT(grammar), V_COMPLETE},
    {"json-schema", 0, OPT_STR, "FILE", "write JSON that fits this JSON Schema; - is standard input", NULL, 0, 0, AT(json_schema),
     V_COMPLETE},
    {"json-object", 0, OPT_FLAG, NULL, "write one JSON object", NULL, 0, 0, AT(json_object), V_COMPLETE},
    {"logprobs", 0, OPT_INT, "K", "with --json: each token's log-probability and the K likeliest (0 to 20)", NULL, 0, 20,
     AT(logprobs), V_COMPLETE},
    {"seed", 's', OPT_INT, "N", "seed of the random choice; the same seed gives the same text (default 0)", NULL, 0,
     9223372036854775807.0, AT(seed), V_WRITES | V_SYNTH | V_CALIBRATE | V_EVAL},
    {"ctx", 'c', OPT_INT, "N", "context in tokens, 4k is 4096 (default: the model's own, at most 4096)", NULL, 1, INT_MAX_,
     AT(ctx), (V_PLACES & ~(uint32_t)V_CASES) | V_SHOW},
    {"ctx", 'c', OPT_INT, "N", "context of a case in tokens, 4k is 4096 (default: the model's own, at most 2048)", NULL, 1,
     INT_MAX_, AT(ctx), V_CASES},
    {"batch", 'b', OPT_INT, "N", "prompt tokens evaluated together (default 512)", NULL, 1, 65536, AT(batch), V_PLACES},
    {"ubatch", 0, OPT_INT, "N", "rows in one pass through the devices, no more than --batch (default: the batch)", NULL, 1, 65536,
     AT(ubatch), V_PLACES},
    {"threads", 'T', OPT_INT, "N", "threads (default: one per core)", NULL, 1, 1024, AT(threads), V_PLACES | V_HISTORY},
    {"kv-type", 0, OPT_STR, "TYPE", "type of the key-value cache (default f16)", "f16|f32|q8_0", 0, 0, AT(kv_type),
     V_PLACES | V_SHOW},
    {"device", 0, OPT_STR, "DEVICE",
     "auto (default): the GPU for what fits and helps, else the CPU; cuda: the GPU or an error; ref: the slow definition",
     "auto|cpu|cuda|ref", 0, 0, AT(device), V_PLACES},
    {"gpu-layers", 0, OPT_STR, "N", "auto (default), all, or the last N whole layers and the head on the GPU", NULL, 0, 0,
     AT(gpu_layers), V_PLACES},
    {"vram-limit", 0, OPT_STR, "SIZE", "act as a card of that size: 4GiB, 3.5g, 800M", NULL, 0, 0, AT(vram_limit), V_PLACES},
    {"main-gpu", 0, OPT_INT, "I", "which GPU, numbered from 0", NULL, 0, 1023, AT(main_gpu), V_PLACES},
    {"no-kv-offload", 0, OPT_FLAG, NULL, "attention and its KV stay on the host", NULL, 0, 0, AT(no_kv_offload), V_PLACES},
    {"stream-layers", 0, OPT_INT, "N",
     "of N host layers the GPU fetches and computes the feed-forward in every step (default: as many as help)", NULL, 0, 65536,
     AT(stream_layers), V_PLACES},
    {"parallel", 0, OPT_INT, "N", "sequences at once (default: 1 in a plan, 4 in bench, where 0 is none, 32 in serve)", NULL, 0,
     4096, AT(parallel), V_PLAN | V_BENCH | V_SERVE},
    {"require-gpu", 0, OPT_FLAG, NULL, "a GPU that cannot be used as asked is an error (exit 4, memory 5), never a fall-back",
     NULL, 0, 0, AT(require_gpu), V_PLACES},
    {"strict", 0, OPT_FLAG, NULL, "whatever would be a warning about the GPU is an error", NULL, 0, 0, AT(strict), V_PLACES},
    {"as-card", 0, OPT_STR, "CARD", "plan for a card that is not here: its name, or its bandwidth in GB/s with --vram-limit",
     NULL, 0, 0, AT(as_card), V_PLAN},
    {"isa", 0, OPT_STR, "ISA", "force an instruction set (default auto)", "auto|generic|avx2|avx512|neon", 0, 0, AT(isa),
     V_PLACES},
    {"chat-format", 0, OPT_STR, "NAME", "how messages are written, instead of the file's template", NULL, 0, 0, AT(chat_format),
     V_DIAGNOSE | V_CHAT | V_CALIBRATE | V_EVAL | V_SHOW | V_SERVE},
    {"no-bos", 0, OPT_FLAG, NULL, "put no token before or behind the text", NULL, 0, 0, AT(no_bos), V_TOKENIZE | V_COMPLETE},
    {"parse-special", 0, OPT_FLAG, NULL, "text such as <|eot_id|> becomes that token", NULL, 0, 0, AT(parse_special),
     V_TOKENIZE | V_COMPLETE},
    {"ids", 0, OPT_FLAG, NULL, "print a JSON array of ids", NULL, 0, 0, AT(ids), V_TOKENIZE},
    {"tokens", 0, OPT_STR, "IDS", "token ids, 1,5,7; - reads them from standard input", NULL, 0, 0, AT(tokens), V_LOGITS},
    {"out", 'o', OPT_STR, "PATH", "file to write", NULL, 0, 0, AT(out), V_LOGITS | V_HISTORY},
    {"out", 'o', OPT_STR, "PATH", "append a result for each case to this file, and do not run again those that are in it", NULL,
     0, 0, AT(out), V_EVAL},
    {"host", 0, OPT_STR, "ADDRESS", "IP address to serve at (default 127.0.0.1: this machine alone)", NULL, 0, 0, AT(host),
     V_SERVE},
    {"port", 0, OPT_INT, "N", "port; 0: any free one (default 8737)", NULL, 0, 65535, AT(port), V_SERVE},
    {"api-keys", 0, OPT_STR, "FILE", "one key a line: NAME ROLE KEY; roles: clinician, auditor, admin", NULL, 0, 0, AT(api_keys),
     V_SERVE},
    {"tls-cert", 0, OPT_STR, "FILE", "PEM certificate: serve HTTPS", NULL, 0, 0, AT(tls_cert), V_SERVE},
    {"tls-key", 0, OPT_STR, "FILE", "PEM key of --tls-cert", NULL, 0, 0, AT(tls_key), V_SERVE},
    {"allow-host", 0, OPT_LIST, "NAME", "a name clients may use for this server, beside addresses and localhost; may be repeated",
     NULL, 0, 0, AT(allow_host), V_SERVE},
    {"allow-origin", 0, OPT_LIST, "ORIGIN", "another page that may call, https://clinic.example; may be repeated", NULL, 0, 0,
     AT(allow_origin), V_SERVE},
    {"also", 0, OPT_LIST, "MODEL", "a further model that requests may name; may be repeated", NULL, 0, 0, AT(also), V_SERVE},
    {"max-models", 0, OPT_INT, "N", "models in memory at once; the longest unused makes room (default 1)", NULL, 1, 64,
     AT(max_models), V_SERVE},
    {"queue", 0, OPT_INT, "N", "requests that may wait; one more gets 429 (default 256)", NULL, 1, 65536, AT(queue), V_SERVE},
    {"keep-alive", 0, OPT_INT, "S", "unload a model unused for S seconds; 0: never (default 0)", NULL, 0, INT_MAX_,
     AT(keep_alive), V_SERVE},
    {"drain", 0, OPT_INT, "S", "on SIGTERM wait at most S seconds for answers under way (default 30)", NULL, 0, 86400, AT(drain),
     V_SERVE},
    {"max-connections", 0, OPT_INT, "N", "open connections (default 16000, or what the system allows)", NULL, 8, 1000000,
     AT(max_connections), V_SERVE},
    {"max-body", 0, OPT_INT, "BYTES", "largest body of a request; 4m is 4194304 (default 4m)", NULL, 1024, 268435456,
     AT(max_body), V_SERVE},
    {"metrics-compat", 0, OPT_STR, "NAMES", "figures also under vLLM's names, for routers that read those", "vllm", 0, 0,
     AT(metrics_compat), V_SERVE},
    {"log", 0, OPT_STR, "FORM",
     "json: a line for each answer on standard error, without any text of it; none (default: json unless "
     "it is a terminal)",
     "json|none", 0, 0, AT(log), V_SERVE},
    {"shape", 0, OPT_STR, "SHAPE", "the model's shape", "tiny|llama-1b|llama-8b", 0, 0, AT(shape), V_SYNTH},
    {"type", 0, OPT_STR, "TYPE", "the weights' type: f32, f16, q8_0, q4_k_m ... (default q8_0)", NULL, 0, 0, AT(type), V_SYNTH},
    {"tensors", 0, OPT_FLAG, NULL, "list every tensor", NULL, 0, 0, AT(tensors), V_SHOW | V_PLAN},
    {"meta", 0, OPT_FLAG, NULL, "list the metadata", NULL, 0, 0, AT(meta), V_SHOW},
    {"n-prompt", 0, OPT_INT, "N", "tokens of the prompt measured; 0: none (default 512)", NULL, 0, 131072, AT(n_prompt), V_BENCH},
    {"n-gen", 0, OPT_INT, "N", "tokens generated; 0: none (default 64)", NULL, 0, 65536, AT(n_gen), V_BENCH},
    {"depth", 0, OPT_INT, "N", "also generate behind a context of N tokens; 0: not (default 1024)", NULL, 0, 1048576, AT(depth),
     V_BENCH},
    {"repeats", 0, OPT_INT, "N", "runs of each measurement (default 5)", NULL, 1, 25, AT(repeats), V_BENCH},
    {"quick", 0, OPT_FLAG, NULL, "shorter measurements", NULL, 0, 0, AT(quick), V_BENCH | V_TUNE},
    {"compare", 0, OPT_FLAG, NULL, "compare with the last run of this model on this device", NULL, 0, 0, AT(compare), V_BENCH},
    {"no-cpu", 0, OPT_FLAG, NULL, "do not measure the CPU alone beside the GPU", NULL, 0, 0, AT(no_cpu), V_BENCH},
    {"no-tune", 0, OPT_FLAG, NULL, "do not use what galen tune kept", NULL, 0, 0, AT(no_tune), V_PLACES & ~(uint32_t)V_TUNE},
    {"format", 0, OPT_STR, "FORMAT", "md (default), csv or json", "md|csv|json", 0, 0, AT(format), V_BENCH},
    {"svg", 0, OPT_STR, "PATH", "also write a plot", NULL, 0, 0, AT(svg), V_BENCH | V_TUNE | V_EVAL},
    {"token", 0, OPT_FLAG, NULL, "compute a real token on CPU and GPU", NULL, 0, 0, AT(token), V_DOCTOR},
    {"hash", 0, OPT_FLAG, NULL, "read the whole model and compute its SHA-256", NULL, 0, 0, AT(hash), V_DOCTOR},
    {"report", 0, OPT_FLAG, NULL, "Markdown for a bug report", NULL, 0, 0, AT(report), V_DOCTOR},
    {"all", 0, OPT_FLAG, NULL, "also the checks that do not apply here", NULL, 0, 0, AT(all), V_DOCTOR},
    {"once", 0, OPT_FLAG, NULL, "print one look and end", NULL, 0, 0, AT(once), V_MONITOR},
    {"interval", 0, OPT_FLOAT, "SECONDS", "time from look to look (default 1)", NULL, 0.1, 3600, AT(interval), V_MONITOR},
    {"db", 0, OPT_STR, "PATH", "the database (default: GALEN_DB, then galen/galen.db in the data folder)", NULL, 0, 0, AT(db),
     V_STORE | V_KEEPS | V_SERVE},
    {"no-history", 0, OPT_FLAG, NULL, "write nothing to the database", NULL, 0, 0, AT(no_history), V_KEEPS},
    {"to", 0, OPT_STR, "FORMAT", "of an export (default markdown)", "text|markdown|json|html|fhir", 0, 0, AT(format), V_HISTORY},
    {"limit", 0, OPT_INT, "N", "rows at most (default 20; 0: all)", NULL, 0, INT_MAX_, AT(limit), V_HISTORY | V_AUDIT},
    {"limit", 0, OPT_INT, "N", "cases at most (default: all)", NULL, 0, INT_MAX_, AT(limit), V_EVAL},
    {"before", 0, OPT_INT, "ID", "cases older than that one: the next page", NULL, 1, 9223372036854775807.0, AT(before),
     V_HISTORY},
    {"turns", 0, OPT_INT, "N", "turns that a branch takes over (default: all)", NULL, 0, INT_MAX_, AT(turns), V_HISTORY},
    {"days", 0, OPT_INT, "N", "expire: age in days of what is erased; stats: days looked back at (default 30; 0: all)", NULL, 0,
     36500, AT(days), V_HISTORY | V_STATS},
    {"yes", 'y', OPT_FLAG, NULL, "erase without asking", NULL, 0, 0, AT(yes), V_HISTORY},
    {"verify", 0, OPT_FLAG, NULL, "check every row", NULL, 0, 0, AT(verify), V_AUDIT},
    {"json", 'j', OPT_FLAG, NULL, "print one JSON object (chat: one a line)", NULL, 0, 0, AT(json), V_JSON},
    {"interactive", 'i', OPT_FLAG, NULL, "ask the questions one by one; with --json every turn is a line", NULL, 0, 0,
     AT(interactive), V_DIAGNOSE},
    {"assistant", 0, OPT_FLAG, NULL, "the medical assistant: a description of symptoms, then its questions", NULL, 0, 0,
     AT(assistant), V_CHAT},
    {"prompts", 0, OPT_STR, "DIR", "a folder of prompts in place of those inside (also GALEN_PROMPTS)", NULL, 0, 0, AT(prompts),
     V_DIAGNOSE | V_CHAT | V_CALIBRATE | V_EVAL},
    {"samples", 0, OPT_INT, "K", "ask the model K times anew for its first name; 0: not at all (default 3)", NULL, 0, 16,
     AT(samples), V_DIAGNOSE | V_CHAT},
    {"max-questions", 0, OPT_INT, "N", "ask at most N questions (default 10)", NULL, 1, 64, AT(max_questions),
     V_DIAGNOSE | V_CHAT},
    {"questions", 0, OPT_INT, "N", "ask the simulated patient at most N questions; 0: none (default 10)", NULL, 0, 64,
     AT(questions), V_EVAL},
    {"no-model", 0, OPT_FLAG, NULL, "open no model: red flags and codes alone", NULL, 0, 0, AT(no_model), V_EVAL},
    {"skip", 0, OPT_INT, "N", "leave out the first N cases", NULL, 0, INT_MAX_, AT(skip), V_EVAL},
    {"from", 0, OPT_STR, "PATH", "make the report of a file that --out wrote, without cases and model", NULL, 0, 0, AT(from),
     V_EVAL},
    {"against", 0, OPT_STR, "PATH", "compare with the results of another run, case by case", NULL, 0, 0, AT(against), V_EVAL},
    {"cases", 0, OPT_STR, "FILE", "labelled cases, one JSON object a line", NULL, 0, 0, AT(cases), V_CALIBRATE},
    {"man", 0, OPT_FLAG, NULL, "print the man page's source", NULL, 0, 0, AT(man), V_HELP},
    {"quiet", 'q', OPT_FLAG, NULL, "no notes and no progress on standard error", NULL, 0, 0, AT(quiet), V_ALL},
    {"no-color", 0, OPT_FLAG, NULL, "no colours (also NO_COLOR in the environment)", NULL, 0, 0, AT(no_color), V_ALL},
    {"help", 'h', OPT_FLAG, NULL, "this verb's help", NULL, 0, 0, AT(help), V_ALL},
};
const size_t cli_n_options = sizeof cli_options / sizeof cli_options[0];
_Static_assert(sizeof cli_options / sizeof cli_options[0] <= CLI_MAX_OPTIONS, "cli_args.is_given has a place for each");

const verb_row *verb_find(const char *name) {
    for (size_t i = 0; i < cli_n_verbs; i++) {
        if (strcmp(cli_verbs[i].name, name) == 0) return &cli_verbs[i];
    }
    return NULL;
}

bool option_given(const cli_args *a, const char *name) {
    bool is_given = false; /* two verbs may have rows of one name */
    for (size_t i = 0; i < cli_n_options; i++) is_given = is_given || (a->is_given[i] && strcmp(cli_options[i].name, name) == 0);
    return is_given;
}

void options_free(cli_args *a) {
    free(a->stop.items);
    free(a->bias.items);
    free(a->allow_host.items);
    free(a->allow_origin.items);
    free(a->also.items);
    a->stop = a->bias = a->allow_host = a->allow_origin = a->also = (str_list){0};
}

/* ------------------------------------------------------------ what goes wrong */

static cli_exit bad_verb(cli *c, const char *word) {
    const char *names[sizeof cli_verbs / sizeof cli_verbs[0]];
    char safe[64];
    for (size_t i = 0; i < cli_n_verbs; i++) names[i] = cli_verbs[i].name;
    const char *near = suggest(word, names, cli_n_verbs);
    term_safe(word, safe, sizeof safe);
    if (near)
        term_error(c, "there is no verb '%s'; did you mean '%s'? (galen help lists them)", safe, near);
    else
        term_error(c, "there is no verb '%s'; galen help lists them", safe);
    return CLI_USAGE;
}

/* An option that the verb does not have: perhaps another verb's, perhaps misspelt. name without dashes. */
static cli_exit bad_option(cli *c, const char *dashes, const char *name) {
    const char *names[sizeof cli_options / sizeof cli_options[0]];
    size_t n = 0;
    char safe[64], owners[128] = "";
    term_safe(name, safe, sizeof safe);
    for (size_t i = 0; i < cli_n_options; i++) {
        const option_row *o = &cli_options[i];
        if (o->verbs & c->verb->bit) names[n++] = o->name;
        if (strcmp(o->name, name) != 0 || strlen(dashes) != 2) continue;
        for (size_t v = 0; v < cli_n_verbs; v++) {
            const size_t used = strlen(owners);
            if (o->verbs & cli_verbs[v].bit)
                (void)snprintf(owners + used, sizeof owners - used, "%s%s", used ? ", " : "", cli_verbs[v].name);
        }
    }
    const char *near = suggest(name, names, n);
    if (owners[0])
        term_error(c, "%s has no option --%s (these have: %s)", c->verb->name, safe, owners);
    else if (near && strlen(dashes) == 2)
        term_error(c, "%s has no option --%s; did you mean --%s?", c->verb->name, safe, near);
    else
        term_error(c, "%s has no option %s%s; see galen help %s", c->verb->name, dashes, safe, c->verb->name);
    return CLI_USAGE;
}

static cli_exit bad_value(cli *c, const option_row *o, const char *value, const char *expected) {
    char safe[64];
    term_error(c, "--%s: '%s' is not %s", o->name, term_safe(value, safe, sizeof safe), expected);
    return CLI_USAGE;
}

/* ------------------------------------------------------------ values */

static bool is_choice(const char *choices, const char *value) {
    const size_t n = strlen(value);
    for (const char *p = choices; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (strncmp(p, value, n) == 0 && (p[n] == '|' || p[n] == '\0') && n) return true;
    }
    return false;
}

static cli_exit list_add(cli *c, str_list *list, const char *value) {
    const char **items = realloc(list->items, (list->n + 1) * sizeof *items);
    if (!items) {
        term_error(c, "out of memory reading the options");
        return CLI_MEMORY;
    }
    items[list->n++] = value;
    list->items = items;
    return CLI_DONE;
}

static cli_exit set_number(cli *c, const option_row *o, const char *value, void *field) {
    char expected[96];
    int64_t i;
    double f;
    if (o->kind == OPT_INT) {
        if (!number_i64(value, &i)) return bad_value(c, o, value, "a whole number");
        f = (double)i;
    } else if (!number_f64(value, &f)) {
        return bad_value(c, o, value, "a number");
    }
    if (f < o->min || f > o->max) {
        if (o->max > INT_MAX_)
            (void)snprintf(expected, sizeof expected, "%.15g or more", o->min);
        else
            (void)snprintf(expected, sizeof expected, "between %.15g and %.15g", o->min, o->max);
        return bad_value(c, o, value, expected);
    }
    if (o->kind == OPT_INT)
        memcpy(field, &i, sizeof i);
    else
        memcpy(field, &f, sizeof f);
    return CLI_DONE;
}

static cli_exit set_value(cli *c, const option_row *o, const char *value) {
    char *field = (char *)&c->args + o->field;
    if (o->kind != OPT_FLAG && o->kind != OPT_LIST) c->args.is_given[o - cli_options] = true;
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)(void *)field = true;
        return CLI_DONE;
    case OPT_STR:
        if (o->choices && !is_choice(o->choices, value)) {
            char expected[96];
            (void)snprintf(expected, sizeof expected, "one of %s", o->choices);
            return bad_value(c, o, value, expected);
        }
        memcpy(field, &value, sizeof value);
        return CLI_DONE;
    case OPT_LIST:
        return list_add(c, (str_list *)(void *)field, value);
    case OPT_INT:
    case OPT_FLOAT:
        return set_number(c, o, value, field);
    }
    return CLI_FAILED;
}

/* ------------------------------------------------------------ words */

static const option_row *find_long(const cli *c, const char *name, size_t n) {
    for (size_t i = 0; i < cli_n_options; i++) {
        const option_row *o = &cli_options[i];
        if ((o->verbs & c->verb->bit) && strlen(o->name) == n && memcmp(o->name, name, n) == 0) return o;
    }
    return NULL;
}

static const option_row *find_letter(const cli *c, char letter) {
    for (size_t i = 0; i < cli_n_options; i++) {
        const option_row *o = &cli_options[i];
        if ((o->verbs & c->verb->bit) && o->letter == letter && letter) return o;
    }
    return NULL;
}

static cli_exit give_value(cli *c, const option_row *o, const char *attached, int argc, char **argv, int *i) {
    if (o->kind == OPT_FLAG) return set_value(c, o, NULL);
    if (attached) return set_value(c, o, attached);
    if (*i + 1 >= argc) {
        term_error(c, "--%s needs a value: --%s %s", o->name, o->name, o->metavar);
        return CLI_USAGE;
    }
    return set_value(c, o, argv[++*i]);
}

/* argv[*i] starts with '-'; *i moves over a value taken. */
static cli_exit parse_option(cli *c, int argc, char **argv, int *i) {
    const char *word = argv[*i];
    if (word[1] != '-') { /* -n5, -n 5 */
        const option_row *o = find_letter(c, word[1]);
        if (!o || (o->kind == OPT_FLAG && word[2])) return bad_option(c, "-", word + 1);
        return give_value(c, o, word[2] ? word + 2 : NULL, argc, argv, i);
    }
    const char *name = word + 2, *eq = strchr(name, '=');
    const option_row *o = find_long(c, name, eq ? (size_t)(eq - name) : strlen(name));
    if (!o) {
        char cut[64];
        (void)snprintf(cut, sizeof cut, "%.*s", eq ? (int)(eq - name) : 63, name);
        return bad_option(c, "--", cut);
    }
    if (eq && o->kind == OPT_FLAG) {
        term_error(c, "--%s takes no value", o->name);
        return CLI_USAGE;
    }
    return give_value(c, o, eq ? eq + 1 : NULL, argc, argv, i);
}

static cli_exit add_positional(cli *c, const char *word) {
    char safe[64];
    if (c->args.n_positional == c->verb->max_positionals && c->verb->bit == V_DIAGNOSE) { /* symptoms are not repeated */
        term_error(c, "diagnose: one argument too many; usage: galen diagnose %s [options] (put the symptoms in quotes)",
                   c->verb->positionals);
        return CLI_USAGE;
    }
    if (c->args.n_positional == c->verb->max_positionals) {
        term_error(c, "%s: '%s' is one argument too many; usage: galen %s %s%s[options]", c->verb->name,
                   term_safe(word, safe, sizeof safe), c->verb->name, c->verb->positionals, *c->verb->positionals ? " " : "");
        return CLI_USAGE;
    }
    c->args.positional[c->args.n_positional++] = word;
    return CLI_DONE;
}

/* `galen`, `galen --help` and `galen --version` are the verbs of that name. */
static cli_exit parse_verb(cli *c, int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "help";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) word = "help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) word = "version";
    c->verb = verb_find(word);
    return c->verb ? CLI_DONE : bad_verb(c, word);
}

cli_exit options_parse(cli *c, int argc, char **argv) {
    cli_exit st = parse_verb(c, argc, argv);
    bool is_plain = false; /* after "--" */
    for (int i = 2; i < argc && !st; i++) {
        const char *word = argv[i];
        if (!is_plain && strcmp(word, "--") == 0)
            is_plain = true;
        else if (!is_plain && word[0] == '-' && word[1])
            st = parse_option(c, argc, argv, &i);
        else
            st = add_positional(c, word);
    }
    return st;
}
