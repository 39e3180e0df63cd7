"use strict";
// `validatorUrl` would ask a server of Swagger's.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
