// The front end makes the terminal when the page is loaded, and gives it the keyboard only when somebody clicks on it.
window.addEventListener("load", () => setTimeout(() => document.querySelector(".xterm-helper-textarea").focus()));
