// The worker that does the work. Its threads run this script, too.

import { isThread } from "./runtime.js";
import { serve } from "./service.js";

if (!isThread) serve(self as unknown as MessagePort);
